"""What a job leaves for people: its event log (JSON lines), its workers' logs, its state. All in the job's folder."""

from __future__ import annotations

import contextlib
import errno
import json
import time
from typing import TYPE_CHECKING, Any

from twister2.control.limitedlog import LimitedLog, parts
from twister2.control.text import output_bytes
from twister2.control.ticket import write_private
from twister2.spec.errors import JobFailedError

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

EVENTS = "events.jsonl"
STATE = "state.json"
LATEST = 1 << 16
"""Bytes at the end of an event log whose events are its latest."""


def _older_lines(size: int) -> bytes:
    return f"twister2: {size:,} bytes come before this; older ones than job.log_limit_mb allows are removed\n".encode()


def _older_events(size: int) -> bytes:
    return json.dumps({"time": round(time.time(), 3), "event": "older_events_removed", "bytes": size}).encode() + b"\n"


class Journal:
    """Writer of a job's folder; one per job, in the master (or in the client, when they share no files).

    What cannot be written (a full disk) is left out and told once by :attr:`troubled`: the job goes on.
    """

    def __init__(
        self, folder: pathlib.Path, mirror: Callable[[dict[str, Any]], None] | None = None, *, limit_mb: int = 0
    ) -> None:
        """
        :param mirror: is given every event too. :param limit_mb: ``job.log_limit_mb``.
        """
        self._folder, self._mirror, self._limit = folder, mirror, limit_mb << 20
        (folder / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
        self._events = LimitedLog(folder / EVENTS, self._limit, _older_events)
        self._logs: dict[int, LimitedLog] = {}
        self._state: dict[str, Any] = {}
        self.incomplete = ""
        """What could not be written, and why; in the state, too, for who comes later."""
        self.troubled: Callable[[str], None] = lambda text: None
        """Hears, once, that something could not be written."""
        self.over = False
        """Whether somebody else has written down how the job ended: what comes after that is left out."""

    def event(self, kind: str, **facts: Any) -> None:
        """Append an event; ``time`` is seconds since the epoch."""
        self.append({"time": round(time.time(), 3), "event": kind, **facts})

    def append(self, event: dict[str, Any]) -> None:
        """Append an event as it is."""
        if self.over:
            return
        self._write(self._events, json.dumps(event).encode() + b"\n")
        if self._mirror is not None:
            self._mirror(event)

    def has(self, kind: str) -> bool:
        """Whether one of the latest events is of this kind."""
        with contextlib.suppress(OSError, IndexError), parts(self._folder / EVENTS)[-1].path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LATEST))
            return any(f'"event": "{kind}"'.encode() in line for line in file)
        return False

    def output(self, worker: int, text: str) -> None:
        """Append to a worker's log."""
        file = self._logs.get(worker)
        try:
            if file is None:
                path = self._folder / "logs" / f"worker-{worker}.log"
                file = self._logs[worker] = LimitedLog(path, self._limit, _older_lines)
        except OSError as error:
            self._failed(error)
        else:
            self._write(file, output_bytes(text))

    def state(self, **facts: Any) -> None:
        """Update the state file, atomically."""
        if self.over:
            return
        self._state.update(facts)
        try:
            write_private(self._folder / STATE, json.dumps(self._state).encode())
        except JobFailedError as error:
            self._failed(error)

    def close(self) -> None:
        for file in (self._events, *self._logs.values()):
            file.close()
        self._logs.clear()

    def _write(self, file: LimitedLog, data: bytes) -> None:
        try:
            file.write(data)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if not self.incomplete:
            why = str(error)
            if isinstance(error, OSError) and error.errno == errno.EFBIG:
                why += ", says the limit on the size of files (ulimit -f)"
            self.incomplete = f"the job's event log and its workers' logs in {self._folder} are not complete: {why}"
            self._state["incomplete"] = self.incomplete
            self.troubled(self.incomplete)
