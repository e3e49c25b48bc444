"""What a job leaves for people: its event log (JSON lines), its workers' logs, its state. All in the job's folder.

Several may say how a job ended: its master, its client, another shell that kills it. The first end that is written down
counts, whoever wrote it; who ends a job by force writes that down before anything is ended (:meth:`Journal.end`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any

from twister2.control.limitedlog import LimitedLog, parts
from twister2.control.text import output_bytes
from twister2.control.ticket import write_private
from twister2.spec.errors import JobFailedError, Twister2Error, from_dict
from twister2.spec.rm import JobState

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator, Mapping

EVENTS = "events.jsonl"
STATE = "state.json"
LATEST = 1 << 16
"""Bytes at the end of an event log whose events are its latest."""
KILLING = "killing"
"""In the state file: the error of the kill that is going on."""
ALONE_S = 1.0
"""How long another writer of the state file is waited for: it may have been stopped in the middle of it."""


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
        self._ended = False
        """Whether this journal has written down how the job ended."""

    @property
    def mirrored(self) -> bool:
        """Whether others keep what is written here, as these files go with the master."""
        return self._mirror is not None

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
        """Update the state file, atomically; not one in which somebody else has written down how the job ended."""
        with self._alone():
            written = self._written()
            self.over = self.over or (not self._ended and _is_end(written))
            if not self.over:
                self._state.update(facts)
                self._ended = _is_end(self._state)
                if self._ended:
                    self._state.setdefault("ended", time.time())
                self._state.pop(KILLING, None)
                if KILLING in written and not self._ended:
                    self._state[KILLING] = written[KILLING]
                self._write_state()

    def end(self, state: JobState, error: Twister2Error | None) -> tuple[JobState, Twister2Error | None]:
        """Write down how the job ended, unless that is written down already. A job that somebody asked to be killed
        (:meth:`killing`) has not failed: that is what the kill does to it.

        :return: how it ended.
        """
        written = self._written()
        if state is JobState.FAILED and (killing := written.get(KILLING)):
            state, error = JobState.KILLED, from_dict(killing)
        if not self._ended:
            told = error.to_dict() if error else None
            self.state(state=state.value, reason=error.what if error else "", error=told)
            if not self.over:
                return state, error
        return end_of(self._written()) or (state, error)

    def killing(self, error: Twister2Error | None) -> None:
        """Write down that the job is about to be killed, before anything of it is; None: it goes on after all."""
        self.amend(**{KILLING: error.to_dict() if error else None})

    def amend(self, **facts: Any) -> None:
        """Add to what the state file says, whoever wrote it; None takes a fact away."""
        with self._alone():
            changed = {**(self._written() or self._state), **facts}
            if self.incomplete:
                changed["incomplete"] = self.incomplete
            self._state = {name: fact for name, fact in changed.items() if name not in facts or fact is not None}
            self._write_state()

    def say_ended(self, by: str, state: JobState, error: Twister2Error | None) -> None:
        """Say in the event log how the job ended, where nobody else has said so."""
        if not self.has("job_ended"):
            self.over = False
            self.event("job_ended", state=state.value, by=by, error=error.to_dict() if error else None)

    def ended(self) -> bool:
        """Whether it is written down how the job ended, by whomever."""
        return _is_end(self._written())

    def _written(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            written = json.loads((self._folder / STATE).read_bytes())
            if isinstance(written, dict):
                return written
        return {}

    def _write_state(self) -> None:
        try:
            write_private(self._folder / STATE, json.dumps(self._state).encode())
        except JobFailedError as error:
            self._failed(error)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else looks at the state file and then writes it meanwhile, where the file system knows locks."""
        descriptor = -1
        try:
            with contextlib.suppress(OSError):
                descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                _lock(descriptor)
            yield
        finally:
            if descriptor >= 0:
                os.close(descriptor)

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


def end_of(facts: Mapping[str, Any]) -> tuple[JobState, Twister2Error | None] | None:
    """How a job ended, by its state file or a message; None when it has not."""
    if not _is_end(facts):
        return None
    return JobState(facts["state"]), from_dict(facts["error"]) if facts.get("error") else None


def _is_end(facts: Mapping[str, Any]) -> bool:
    try:
        return JobState(facts.get("state", "queued")).final
    except ValueError:
        return False


def _lock(descriptor: int) -> None:
    """Take a lock, but wait no longer than :data:`ALONE_S` for it.

    :raises OSError: the file system has none.
    """
    until = time.monotonic() + ALONE_S
    while time.monotonic() < until:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.002)
        else:
            return
