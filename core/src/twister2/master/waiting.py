"""How long an attempt waits for its workers: what the resource manager's queue takes is not what their start takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twister2.control.looking import GONE_S
from twister2.master.causes import not_joined, queued_too_long
from twister2.spec.rm import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.config import JobConfig
    from twister2.master.slots import Slot
    from twister2.spec.errors import DeadlineError
    from twister2.spec.rm import JobStatus

WAITS = "waits"
"""How the manager's words for a copy begin that has no place yet."""


class Waiting:
    """The deadlines until all workers have joined, and what is known of those that have not."""

    def __init__(self, config: JobConfig) -> None:
        self._config = config
        self._since = time.monotonic()
        self._queued = True
        self._why = self._said = self._room = self._trouble = ""
        """What the attempt does, what the manager says, why it has no place for some copies, and why it cannot be asked
        now.
        """
        self._unknown = 0.0
        """Since when the manager knows nothing of the job."""

    def _reason(self) -> str:
        """Why not all workers have joined yet, for who looks at the job."""
        if not self._why:
            return self._trouble or self._room or self._said
        return "; ".join(filter(None, (self._why, self._room, self._trouble)))

    def queued_s(self, now: float) -> float:
        """How long the job has waited for room; 0: it has it."""
        return now - self._since if self._queued or self._room else 0.0

    def _queues(self, queued: bool) -> None:
        """The job is in the queue, or has left it: the deadline of that counts from now."""
        if queued is not self._queued:
            self._queued, self._since = queued, time.monotonic()

    def joining(self) -> str:
        """The first worker has come; returns the reason."""
        self._queues(False)
        self._why = "workers are joining"
        return self._reason()

    def anew(self, why: str) -> None:
        """Another attempt begins; as far as is known there is room for it."""
        self._why, self._said, self._room, self._trouble = why, "", "", ""
        self._queued, self._since, self._unknown = False, time.monotonic(), 0.0

    def ended(self, status: JobStatus) -> bool:
        """Whether the manager has ended the job, or has known nothing of it for a while: somebody removed it there."""
        now = time.monotonic()
        self._unknown = (self._unknown or now) if status.state is JobState.UNKNOWN else 0.0
        return status.state.final or bool(self._unknown and now - self._unknown > GONE_S)

    def troubled(self, text: str) -> str:
        """The manager cannot be asked, or could not do what it was asked for; that holds until it is heard again.
        Returns the reason.
        """
        self._trouble, self._unknown = text, 0.0
        return self._reason()

    def heard(self, status: JobStatus, slots: Sequence[Slot]) -> str:
        """What the manager says of the job, and of copies that have not joined; returns the reason."""
        if status.state is not JobState.QUEUED:
            self._queues(self._queued and status.state is JobState.UNKNOWN)
        elif all(slot.phase == "absent" for slot in slots):  # else it has begun since the manager was asked
            self._queues(True)
        said = (status.slots.get(slot.place, "") for slot in slots if slot.phase == "absent")
        waits = [text for text in said if text.startswith(WAITS)]
        before, self._said, self._room, self._trouble = self._room, status.reason, "", ""
        if waits:
            self._room = f"{len(waits)} of {len(slots)} workers wait{waits[0].removeprefix(WAITS)}"
        if bool(before) != bool(self._room):
            self._since = time.monotonic()
        return self._reason()

    def overdue(self, slots: Sequence[Slot], now: float) -> DeadlineError | None:
        """The error for workers that have not come in time."""
        waits = self._queued or bool(self._room)
        limit = self._config.queue_deadline_s if waits else self._config.start_deadline_s
        if limit and now - self._since > limit:
            said = self._room or self._said
            reason = self._trouble or (f"the resource manager says: {said}" if said else "")
            return queued_too_long(limit, now - self._since, reason) if waits else not_joined(slots, limit, reason)
        return None
