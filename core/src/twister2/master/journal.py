"""What a job leaves for people: its event log (JSON lines), its workers' logs, its state. All in the job's folder."""

from __future__ import annotations

import json
import time
from typing import IO, TYPE_CHECKING, Any

from twister2.control.ticket import write_private

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

EVENTS = "events.jsonl"
STATE = "state.json"


class Journal:
    """Writer of a job's folder; one per job, in the master (or in the client, when they share no files)."""

    def __init__(self, folder: pathlib.Path, mirror: Callable[[dict[str, Any]], None] | None = None) -> None:
        """
        :param mirror: is given every event too.
        """
        self._folder, self._mirror = folder, mirror
        (folder / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
        self._events = (folder / EVENTS).open("a", encoding="utf-8")
        self._logs: dict[int, IO[str]] = {}
        self._state: dict[str, Any] = {}

    def event(self, kind: str, **facts: Any) -> None:
        """Append an event; ``time`` is seconds since the epoch."""
        self.append({"time": round(time.time(), 3), "event": kind, **facts})

    def append(self, event: dict[str, Any]) -> None:
        """Append an event as it is."""
        self._events.write(json.dumps(event) + "\n")
        self._events.flush()
        if self._mirror is not None:
            self._mirror(event)

    def output(self, worker: int, text: str) -> None:
        """Append to a worker's log."""
        file = self._logs.get(worker)
        if file is None:
            path = self._folder / "logs" / f"worker-{worker}.log"
            file = self._logs[worker] = path.open("a", encoding="utf-8")
        file.write(text)
        file.flush()

    def state(self, **facts: Any) -> None:
        """Update the state file, atomically."""
        self._state.update(facts)
        write_private(self._folder / STATE, json.dumps(self._state).encode())

    def close(self) -> None:
        for file in (self._events, *self._logs.values()):
            file.close()
        self._logs.clear()
