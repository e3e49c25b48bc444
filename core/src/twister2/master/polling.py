"""How often a job's master asks the resource manager how the job is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.control.looking import pause_s
from twister2.spec.rm import JobState

if TYPE_CHECKING:
    from twister2.config import JobConfig
    from twister2.master.job import Job

STATE_EVERY_S = 1.0


class Polling:
    """When to ask; one look at a time: with a manager that takes long they would hold up all other calls."""

    def __init__(self, config: JobConfig, *, same_host: bool) -> None:
        self._config, self._same_host = config, same_host
        self._asked, self._waits = 0.0, False

    def soon(self) -> None:
        """Something has happened of which the manager may know more."""
        self._asked = 0.0

    def due(self, job: Job, now: float) -> float:
        """The time of a look that begins now; 0: it is not time yet."""
        every_s = state_every_s(job, self._config, now, same_host=self._same_host)
        if self._waits or now - self._asked < every_s:
            return 0.0
        self._asked, self._waits = now, True
        return now

    def answered(self) -> None:
        """The latest look is over, whatever came of it."""
        self._waits = False


def state_every_s(job: Job, config: JobConfig, now: float, *, same_host: bool) -> float:
    """Seconds between two looks: each may be a call to a busy server. A job that waits for room waits with many, and of
    workers that run their beats say enough.
    """
    if same_host or job.scaling.pending:
        return STATE_EVERY_S
    if job.state is not JobState.RUNNING:
        return pause_s(job.waiting.queued_s(now), STATE_EVERY_S)
    silent = now - 1.5 * config.heartbeat_s
    if any(slot.heard < silent and not slot.gone for slot in job.slots):
        return STATE_EVERY_S
    return max(STATE_EVERY_S, config.manager_poll_s)
