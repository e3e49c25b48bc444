"""How long an attempt waits for its workers: what the resource manager's queue takes is not what their start takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twister2.master.causes import not_joined

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
        self._why = self._said = self._room = ""
        """What the attempt does, what the manager says, and why it has no place for some copies."""

    @property
    def reason(self) -> str:
        """Why not all workers have joined yet, for who looks at the job."""
        return "; ".join(filter(None, (self._why, self._room))) if self._why else self._room or self._said

    def runs(self) -> None:
        """The job has left the queue: the start deadline counts from now."""
        if self._queued:
            self._queued, self._since = False, time.monotonic()

    def joining(self) -> str:
        """The first worker has come; returns the reason."""
        self.runs()
        self._why = "workers are joining"
        return self.reason

    def anew(self, why: str) -> None:
        """Another attempt begins; as far as is known there is room for it."""
        self._queued, self._why, self._said, self._room = False, why, "", ""
        self._since = time.monotonic()

    def heard(self, status: JobStatus, slots: Sequence[Slot]) -> None:
        """What the manager says of copies that have not joined."""
        said = (status.slots.get(slot.place, "") for slot in slots if slot.phase == "absent")
        waits = [text for text in said if text.startswith(WAITS)]
        before, self._said, self._room = self._room, status.reason, ""
        if waits:
            self._room = f"{len(waits)} of {len(slots)} workers wait{waits[0].removeprefix(WAITS)}"
        if bool(before) != bool(self._room):
            self._since = time.monotonic()

    def overdue(self, slots: Sequence[Slot], now: float) -> DeadlineError | None:
        """The error for workers that have not come in time."""
        waits = self._queued or bool(self._room)
        limit = self._config.queue_deadline_s if waits else self._config.start_deadline_s
        if limit and now - self._since > limit:
            return not_joined(slots, limit, self._room or self._said)
        return None
