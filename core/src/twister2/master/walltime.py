"""The longest time that a job may run, for every resource manager alike."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twister2.spec.rm import JobState

if TYPE_CHECKING:
    from twister2.master.job import Job


class Walltime:
    """Ends a job in order when its time is over: programs get their grace, and no other attempt is begun.

    Counted from the first worker that joins, so that waiting in a queue does not count. A manager that has a limit of
    its own only ends what is left of a job whose master could not.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._limit_s = job, job.facts.config.walltime_s
        self._begun = 0.0

    def look(self) -> None:
        """To be called now and then."""
        if not self._limit_s or self._job.state.final:
            return
        now = time.monotonic()
        if not self._begun:
            self._begun = now if self._job.state is not JobState.QUEUED else 0.0
        elif now - self._begun > self._limit_s:
            self._job.kill(f"it reached its time limit of {self._limit_s} s; raise job.walltime_s if it needs longer")
