"""What a job leaves for people: its event log (JSON lines), its workers' logs, its state. All in the job's folder."""

from __future__ import annotations

import json
import time
from typing import IO, TYPE_CHECKING, Any

from twister2.control.ticket import write_private
from twister2.spec.errors import JobFailedError

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

EVENTS = "events.jsonl"
STATE = "state.json"


class Journal:
    """Writer of a job's folder; one per job, in the master (or in the client, when they share no files).

    What cannot be written (a full disk) is left out and told once by :attr:`troubled`: the job goes on.
    """

    def __init__(self, folder: pathlib.Path, mirror: Callable[[dict[str, Any]], None] | None = None) -> None:
        """
        :param mirror: is given every event too.
        """
        self._folder, self._mirror = folder, mirror
        (folder / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
        self._events = self._open(folder / EVENTS)
        self._logs: dict[int, IO[bytes]] = {}
        self._state: dict[str, Any] = {}
        self._told = False
        self.troubled: Callable[[str], None] = lambda text: None
        """Hears, once, that something could not be written."""

    def event(self, kind: str, **facts: Any) -> None:
        """Append an event; ``time`` is seconds since the epoch."""
        self.append({"time": round(time.time(), 3), "event": kind, **facts})

    def append(self, event: dict[str, Any]) -> None:
        """Append an event as it is."""
        self._write(self._events, json.dumps(event) + "\n")
        if self._mirror is not None:
            self._mirror(event)

    def output(self, worker: int, text: str) -> None:
        """Append to a worker's log."""
        file = self._logs.get(worker)
        try:
            if file is None:
                file = self._logs[worker] = self._open(self._folder / "logs" / f"worker-{worker}.log")
        except OSError as error:
            self._failed(error)
        else:
            self._write(file, text)

    def state(self, **facts: Any) -> None:
        """Update the state file, atomically."""
        self._state.update(facts)
        try:
            write_private(self._folder / STATE, json.dumps(self._state).encode())
        except JobFailedError as error:
            self._failed(error)

    def close(self) -> None:
        for file in (self._events, *self._logs.values()):
            file.close()
        self._logs.clear()

    @staticmethod
    def _open(path: pathlib.Path) -> IO[bytes]:
        return path.open("ab", buffering=0)

    def _write(self, file: IO[bytes], text: str) -> None:
        data = memoryview(text.encode("utf-8", "backslashreplace"))  # names of files may hold half a surrogate pair
        try:
            while data:
                data = data[file.write(data) :]
        except OSError as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            self.troubled(f"the job's event log and its workers' logs in {self._folder} are not complete: {error}")
