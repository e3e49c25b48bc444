"""The longest time that a job may run, for every resource manager alike."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

from twister2.spec.rm import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.master.job import Job
    from twister2.master.manager import Refused
    from twister2.spec.errors import Twister2Error


DEADLINE = "TWISTER2_DEADLINE"
"""Variable by which a resource manager tells master and workers when it will end the job: seconds since 1970."""
RESTARTS = "TWISTER2_RESTARTS"
"""Variable by which it tells how often it has begun the whole job anew, each time with all its time."""
SPARE_S = 10.0
"""How long before that the job is ended in order, beside the grace of its programs."""
AGAIN_S = 2.0
"""Time between two tries to have it begun anew, where the manager has refused that or is away;"""
LAST_TRY_S = SPARE_S / 2
"""the last one is this long after the job should have ended in order: what is left then is its programs' grace."""
MANAGERS = (
    f"it reaches the time limit of the resource manager, {SPARE_S:g} s and its grace from now; "
    "ask for more with job.walltime_s if it needs longer"
)
NO_COMMIT = "; it is not begun anew, since the program has committed nothing (env.commit())"


class Walltime:
    """Ends a job in order when its time is over: programs get their grace, and no other attempt is begun. They are
    warned before.

    Counted from the first worker that joins, so that waiting in a queue does not count. A manager that has a limit of
    its own only ends what is left of a job whose master could not. One that can begin a job anew is asked to at the
    first commit after the warning, or when the time is over, if there is a commit that the job had not when it began.
    """

    def __init__(self, job: Job, renew: Callable[[Refused], None] | None = None) -> None:
        """
        :param renew: begins the job anew, or tells why that cannot be; None where the manager does not.
        """
        self._job, self._limit_s, self._renew = job, job.facts.config.walltime_s, renew
        self._begun = 0.0
        text = os.environ.get(DEADLINE, "")
        self._ends_at = float(text) if text.isdigit() else 0.0
        self._first: int | None = None
        """The latest commit when the job began, this time,"""
        self._warned: int | None = None
        """and when it was warned."""
        self._renewing = False
        self._refused = ""
        """Why the manager has not begun the job anew,"""
        self._again = 0.0
        """and when it is asked again."""

    def began(self, begun: float) -> None:
        """An earlier life of this master has begun to count.

        :param begun: seconds since 1970.
        """
        if not os.environ.get(RESTARTS, "").strip("0"):
            self._begun = time.monotonic() - max(0.0, time.time() - begun)

    def ends_at(self, end: float) -> None:
        """The manager says when it ends the job.

        :param end: seconds since 1970; 0: it does not say.
        """
        self._ends_at = end or self._ends_at

    def not_renewed(self, error: Twister2Error) -> None:
        """The manager does not begin the job anew, or not yet: it may be away."""
        if not self._refused:
            text = f"warning: {error.what}: {error.why}; it is tried again until the time is over\n"
            self._job.relay.warn(text)
        self._refused, self._renewing = f"{error.what} ({error.why})", False
        self._again = time.monotonic() + AGAIN_S

    def look(self) -> None:
        """To be called now and then."""
        job = self._job
        if job.state.final or self._renewing:
            return
        if self._first is None and job.state is JobState.RUNNING:
            self._first = job.checkpoints.latest
        left, why = self._left()
        if left > job.facts.config.walltime_warn_s:
            return
        if self._warned is None and job.state is JobState.RUNNING:
            self._warn(left)
        committed = self._warned is not None and job.checkpoints.latest > self._good_commit(left)
        if self._renew is not None and committed and (not self._refused or left > -LAST_TRY_S):
            if time.monotonic() >= self._again:
                self._begin_anew(self._renew)
        elif left <= 0:
            job.kill(why + self._why_not_anew())

    def _begin_anew(self, renew: Callable[[Refused], None]) -> None:
        job, self._renewing = self._job, True
        job.journal.event("renewing", checkpoint=job.checkpoints.latest)
        if not self._refused:
            job.relay.warn(
                f"its time is nearly over: it begins anew, and goes on from commit {job.checkpoints.latest}\n"
            )
        renew(self.not_renewed)

    def _why_not_anew(self) -> str:
        if self._renew is None:
            return ""
        return f"; it could not be begun anew: {self._refused}" if self._refused else NO_COMMIT

    def _good_commit(self, left: float) -> int:
        """A job is begun anew with a later commit than this one: else it would do the same again, and for ever."""
        return (self._warned if left > 0 else self._first) or 0

    def _left(self) -> tuple[float, str]:
        """Seconds until the job has to end, and why."""
        found = [(math.inf, "")]
        if self._ends_at:
            found.append((self._ends_at - SPARE_S - self._job.facts.config.kill_grace_s - time.time(), MANAGERS))
        if self._limit_s:
            now = time.monotonic()
            if not self._begun and self._job.state is not JobState.QUEUED:
                self._begun = now
            spent = now - self._begun if self._begun else 0.0
            why = f"it reached its time limit of {self._limit_s} s; raise job.walltime_s if it needs longer"
            found.append((self._limit_s - spent, why))
        return min(found)

    def _warn(self, left: float) -> None:
        job = self._job
        self._warned = job.checkpoints.latest
        text = f"the time of the job is over in {max(0, round(left))} s"
        job.journal.event("time_nearly_over", seconds=round(left))
        job.relay.warn(f"warning: {text}\n")
        for slot in job.slots:
            if slot.phase == "joined":
                body = {"kind": "time", "worker_id": slot.number, "attempt": job.attempt, "text": text}
                job.post(slot.peer, "event", body)
