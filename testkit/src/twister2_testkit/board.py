"""Links in memory: what a job master and supervisors do for workers, for N threads of one process."""

from __future__ import annotations

import json
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import (
    DeadlineError,
    StepAbortedError,
    StepMismatchError,
    Twister2Error,
    UsageError,
    from_dict,
)
from twister2.worker.differences import remedy
from twister2.worker.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.spec.environment import WorkerEvent
    from twister2.spec.network import Fingerprint, Group


class Board:
    """The master's part: exchanges, step notes, who has returned, and the first cause of an abort.

    :param size: number of workers.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.Condition()
        self.cause: Twister2Error | None = None
        self.culprit = -1
        self.posted: list[tuple[int, str, dict[str, Any]]] = []
        self.stored: dict[str, bytes] = {}
        self._exchanges: dict[tuple[str, str, int], dict[int, Any]] = {}
        self._steps: dict[tuple[int, int], dict[int, tuple[Fingerprint, Group]]] = {}
        self._left: dict[tuple[int, int], int] = {}
        self._returned: set[int] = set()
        self._pipes = [os.pipe() for _ in range(size)]
        for reading, writing in self._pipes:
            os.set_blocking(reading, False)
            os.set_blocking(writing, False)
        self._closed = False

    def link(self, worker_id: int, attempt: int = 1) -> MemoryLink:
        """The link of one worker."""
        return MemoryLink(self, worker_id, attempt)

    def fail(self, worker_id: int, error: Twister2Error) -> None:
        """Abort the attempt; the first cause wins."""
        with self.lock:
            if self.cause is not None or self._closed:
                return
            self.cause = error
            self.culprit = worker_id
            for _, writing in self._pipes:
                os.write(writing, b"!")
            self.lock.notify_all()

    def returned(self, worker_id: int) -> None:
        """A worker's function returned: an error when others wait for it in a step."""
        with self.lock:
            self._returned.add(worker_id)
            self.lock.notify_all()
            for key, notes in self._steps.items():
                self._missing(key, notes)

    def enter(self, worker_id: int, group: Group, number: int, fingerprint: Fingerprint) -> None:
        """Note a step and compare it with the notes of the group's other members."""
        with self.lock:
            key = (group.number, number)
            notes = self._steps.setdefault(key, {})
            for other, (theirs, _) in notes.items():
                if not theirs.same_as(fingerprint):
                    self.fail(worker_id, _different(number, (worker_id, fingerprint), (other, theirs)))
                    return
            notes[worker_id] = (fingerprint, group)
            self._missing(key, notes)

    def whereabouts(self, asker: int, group: int, number: int) -> dict[str, Any]:
        """Who has not entered a step, and where each of them is; see :mod:`twister2.master.whereabouts`."""
        known, where = self._steps.get((group, number), {}), {}
        others = [member for member in known[asker][1].members if member != asker]
        late = [member for member in others if member not in known]
        for member in late or others:
            entered = [(key, notes[member][0]) for key, notes in self._steps.items() if member in notes]
            (_, step), what = entered[-1] if entered else ((0, 0), None)
            where[member] = (
                f"was last in {what.kind} {what.shape} at {what.line} (step {step})" if what else "is in no step"
            )
        return {"late": late, "where": where}

    def leave(self, group: Group, number: int) -> None:
        """A member ended a step normally."""
        with self.lock:
            key = (group.number, number)
            self._left[key] = self._left.get(key, 0) + 1
            if self._left[key] == group.size:
                self._steps.pop(key, None)
                del self._left[key]

    def _missing(self, key: tuple[int, int], notes: Mapping[int, tuple[Fingerprint, Group]]) -> None:
        for waiting, (fingerprint, group) in notes.items():
            gone = [member for member in group.members if member in self._returned and member not in notes]
            if gone:
                self.fail(
                    gone[0],
                    StepMismatchError(
                        f"worker {gone[0]} returned while worker {waiting} waits in step {key[1]}",
                        why=f"worker {waiting} is in '{fingerprint.kind} {fingerprint.shape}' ({fingerprint.line})",
                        remedy="let all workers make the same collective calls",
                        where=fingerprint.line,
                    ),
                )
                return

    def exchange(
        self,
        worker_id: int,
        key: tuple[str, str, int],
        value: Any,
        deadline_s: float | None,
        progress: Callable[[], object] | None = None,
    ) -> list[Any]:
        """Collect one value per worker under a key; returns them by worker id."""
        until = None if deadline_s is None else time.monotonic() + deadline_s
        with self.lock:
            values = self._exchanges.setdefault(key, {})
            values[worker_id] = value
            self.lock.notify_all()
            while len(values) < self.size:
                if self.cause is not None:
                    raise abort_error(self.cause)
                missing = sorted(set(range(self.size)) - set(values))
                if key[0] != "end" and set(missing) & self._returned:  # to the end come all who have returned
                    self.fail(missing[0], _not_there(key[1], missing, "it has returned"))
                    continue
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise _not_there(key[1], missing, f"{deadline_s:g} s have passed")
                if progress is None:
                    self.lock.wait(left)
                    continue
                self.lock.wait(0.005)
                self.lock.release()
                try:
                    progress()
                finally:
                    self.lock.acquire()
            return [values[worker] for worker in range(self.size)]

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
            for ends in self._pipes:
                for descriptor in ends:
                    os.close(descriptor)

    def descriptor(self, worker_id: int) -> int:
        """What polls readable once the attempt is aborted."""
        return self._pipes[worker_id][0]


def abort_error(cause: Twister2Error) -> Twister2Error:
    """What workers raise for a cause: mismatches and deadlines as they are, everything else as StepAbortedError."""
    if isinstance(cause, (StepMismatchError, DeadlineError)):
        return from_dict(cause.to_dict())
    return StepAbortedError(
        f"another worker failed: {cause.what}",
        why=cause.why,
        remedy=cause.remedy,
        where=cause.where,
        details={"cause": cause.to_dict()},
    )


def _different(number: int, one: tuple[int, Fingerprint], other: tuple[int, Fingerprint]) -> StepMismatchError:
    text = ", ".join(f"worker {who} is in '{what.kind} {what.shape}' ({what.line})" for who, what in (one, other))
    return StepMismatchError(
        f"workers {one[0]} and {other[0]} do different things in step {number}",
        why=text,
        remedy=remedy(*((what.kind, what.shape, what.line) for _, what in (one, other))),
        where=one[1].line,
    )


def _not_there(name: str, missing: list[int], why: str) -> DeadlineError:
    return DeadlineError(
        f"workers {missing} did not come to '{name}'",
        why=why,
        remedy="let all workers make the same collective calls",
        details={"missing": missing},
    )


class MemoryLink(Link):
    """The line of one worker to a :class:`Board`."""

    def __init__(self, board: Board, worker_id: int, attempt: int) -> None:
        self.board = board
        self.worker_id = worker_id
        self.attempt = attempt
        self.waits_for = self.ways = ""
        """What was given to :meth:`waiting` last."""
        self._numbers: dict[int, int] = {}
        self._exchanged: dict[tuple[str, str], int] = {}

    @property
    def aborted(self) -> bool:
        return self.board.cause is not None

    def raise_if_aborted(self) -> None:
        cause = self.board.cause
        if cause is not None:
            raise abort_error(cause)

    def fileno(self) -> int:
        return self.board.descriptor(self.worker_id)

    def poll(self, timeout_s: float = 0.0) -> bool:
        return bool(select.select([self.fileno()], [], [], timeout_s)[0])

    def next_step(self, group: int) -> int:
        number = self._numbers[group] = self._numbers.get(group, 0) + 1
        return number

    def enter_step(self, group: Group, number: int, fingerprint: Fingerprint) -> None:
        self.board.enter(self.worker_id, group, number, fingerprint)

    def leave_step(self, group: Group, number: int) -> None:
        self.board.leave(group, number)

    def waiting(self, what: str) -> None:
        self.waits_for = what

    def note_ways(self, text: str) -> None:
        self.ways = text

    def post(self, kind: str, body: Mapping[str, Any], blob: bytes = b"") -> None:
        with self.board.lock:
            self.board.posted.append((self.worker_id, kind, dict(body)))

    def exchange(
        self,
        kind: str,
        name: str,
        value: Any,
        deadline_s: float | None,
        progress: Callable[[], object] | None = None,
    ) -> list[Any]:
        count = self._exchanged[kind, name] = self._exchanged.get((kind, name), 0) + 1
        return self.board.exchange(self.worker_id, (kind, name, count), value, deadline_s, progress)

    def request(
        self, kind: str, body: Mapping[str, Any], blob: bytes = b"", deadline_s: float | None = None
    ) -> bytes | None:
        with self.board.lock:
            if kind == "state_put":
                self.board.stored[str(body["key"])] = blob
                return None
            if kind == "state_get":
                return self.board.stored.get(str(body["key"]))
            if kind == "whereabouts":
                return json.dumps(self.board.whereabouts(self.worker_id, body["group"], body["step"])).encode()
        raise UsageError(
            f"the board does not answer '{kind}'", why="only state_get, state_put, whereabouts", remedy="use those"
        )

    def take_events(self) -> list[WorkerEvent]:
        return []

    def fail(self, error: Twister2Error) -> None:
        self.board.fail(self.worker_id, error)
