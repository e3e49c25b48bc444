"""A job that changes its size, or begins again, while it runs: the next attempt is begun on purpose.

New copies join beside the attempt that runs and stand by. When all are there the attempt is ended, at the program's
next commit or at once, and the next one begins from the latest commit with more or fewer workers. Nothing of that
counts as one of ``job.attempts``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.master.causes import copy_ended
from twister2.master.slots import Slot
from twister2.spec.errors import (
    CapabilityError,
    DeadlineError,
    JobFailedError,
    StepAbortedError,
    Twister2Error,
    UsageError,
)
from twister2.spec.rm import JobState
from twister2.worker.groups import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.control.messages import Message
    from twister2.master.job import Job
    from twister2.spec.rm import JobStatus, ResourceGroup

COMMIT_FIRST = "a job cannot be scaled without a committed checkpoint"
MOST = 100_000
"""Workers of a group: a slip of the keyboard must not cost a master that serves a job its memory."""


@attrs.define
class Change:
    """A change under way.

    :ivar what: in words. :ivar targets: workers by group, empty where only the program begins again.
    :ivar at_once: whether the next commit is waited for. :ivar waits_for: in words; empty once the attempt is ended.
    :ivar until: monotonic time of its deadline. :ivar error: why it came to nothing.
    """

    number: int
    what: str
    targets: dict[str, int]
    at_once: bool
    until: float
    limit_s: float
    waits_for: str = ""
    ending: bool = False
    over: bool = False
    error: Twister2Error | None = None

    def to_dict(self) -> dict[str, Any]:
        """For clients."""
        error = None if self.error is None else self.error.to_dict()
        return {
            "number": self.number,
            "what": self.what,
            "waits_for": self.waits_for,
            "over": self.over,
            "error": error,
        }


class Scaling:
    """The changes of one job, one at a time.

    :ivar pending: slots that were asked for and are not part of an attempt yet, by place in the allocation.
    :ivar change: the latest change, if there was one.
    """

    def __init__(self, job: Job, groups: tuple[ResourceGroup, ...]) -> None:
        self._job = job
        self._groups = {group.name: group for group in groups}
        self.places = sum(group.count for group in groups)
        """Slots of the allocation, given up ones in the middle counted."""
        self._given_up: dict[int, str] = {}
        self.pending: dict[int, Slot] = {}
        self.change: Change | None = None
        self._why_pending = ""

    # -- asked by clients ----------------------------------------------------------------------------------------------

    def asked(self, peer: bytes, message: Message) -> None:
        """A client wants another size (``scale``), or a new attempt (``restart``); it is told what comes of it."""
        try:
            if message.kind == "scale":
                told = self._scale(dict(message.body["targets"]), bool(message.body["now"]), message.body["deadline_s"])
            else:
                told = self._restart(str(message.body["reason"]))
            self._job.post(peer, "changing", {"error": None, **told})
        except Twister2Error as error:
            self._job.post(peer, "changing", {"error": error.to_dict()})

    def _restart(self, reason: str) -> dict[str, Any]:
        job = self._job
        self._check_running("started again")
        latest = job.checkpoints.latest
        where = f"commit {latest}" if latest else "the start"
        change = self._begin(f"it was started again from {where} ({reason})", {}, True, 0.0)
        self._end_attempt(change)
        return {"from": where, "number": change.number, "n_workers": len(job.slots)}

    def _scale(self, targets: dict[str, int], at_once: bool, limit_s: float) -> dict[str, Any]:
        job = self._job
        self._check_running("scaled")
        now = self._counts()
        targets = self._checked(targets, now)
        if all(now[name] == count for name, count in targets.items()):
            return {"number": 0, "n_workers": len(job.slots)}
        if not job.checkpoints.latest:
            raise UsageError(
                COMMIT_FIRST,
                why="the next attempt begins from the latest commit, and the program has made none yet (env.commit())",
                remedy="wait for its first commit; a program that commits nothing begins anew with 'twister2 kill' and "
                "'twister2 submit'",
            )
        why_not = "a process world does not grow" if job.facts.fresh_world else job.manager.resizes()
        if why_not:
            raise CapabilityError(
                "this job cannot be scaled", why=why_not, remedy="submit it again with another number of workers"
            )
        if job.checkpoints.per_worker:
            raise self._of_each_worker()
        total = len(job.slots) + sum(count - now[name] for name, count in targets.items())
        change = self._begin(f"it is scaled from {len(job.slots)} to {total} workers", targets, at_once, limit_s)
        for name, count in targets.items():
            if count > now[name]:
                self._ask_for(self._groups[name], count - now[name])
        self._look()
        return {"number": change.number, "n_workers": total}

    def _of_each_worker(self) -> UsageError:
        job = self._job
        return UsageError(
            "the job cannot be scaled: its state fits this number of workers only",
            why=f"commit {job.checkpoints.latest} has state variables of scope 'worker', one value for each of "
            f"{len(job.slots)} workers",
            remedy="use scope='replicated' in programs that are to be scaled",
        )

    def _check_running(self, done: str) -> None:
        job = self._job
        if job.state is not JobState.RUNNING or job.aborting:
            raise UsageError(
                f"the job cannot be {done} now",
                why=f"it is {job.state.value}{': ' + job.reason if job.reason else ''}",
                remedy="wait until it runs; 'twister2 status' shows that",
            )
        if self.change is not None and not self.change.over:
            raise UsageError(
                f"the job cannot be {done} now",
                why=f"{self.change.what}, and waits for {self.change.waits_for or 'the end of the attempt'}",
                remedy="wait until that is over; 'twister2 status' shows it",
            )

    def _counts(self) -> dict[str, int]:
        counts = dict.fromkeys(self._groups, 0)
        for slot in self._job.slots:
            counts[slot.group] += 1
        return counts

    def _checked(self, targets: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
        """Targets by the names of groups; without a name it is the only group that may change.

        :raises UsageError: there is no such group, or it keeps its size, or it would be empty, or far too large.
        """
        scalable = [name for name, group in self._groups.items() if group.scalable]
        found: dict[str, int] = {}
        for given, count in targets.items():
            name = given or (scalable[0] if len(scalable) == 1 else "")
            counts = ", ".join(f"{each} {count}" for each, count in now.items())
            if name not in self._groups:
                raise UsageError(
                    f"the job has no group {given!r} of workers" if given else "which group of workers is meant?",
                    why=f"its groups are: {counts}",
                    remedy="name one: twister2 scale JOB GROUP=N",
                )
            if not self._groups[name].scalable and count != now[name]:
                raise UsageError(
                    f"the group {name!r} keeps its size",
                    why=f"the job was submitted with job.groups.{name}.scalable = false; its groups are: {counts}",
                    remedy=f"scale another one: {', '.join(scalable) or 'there is none'}",
                )
            if count < 1:
                raise UsageError(
                    f"a group cannot have {count} workers", why="one is the least", remedy="kill the job to end it"
                )
            if count > MOST:
                raise UsageError(
                    f"a group cannot have {count:,} workers",
                    why=f"a running job grows to {MOST:,} at the most",
                    remedy="ask for fewer workers",
                )
            found[name] = count
        return found

    def _begin(self, what: str, targets: dict[str, int], at_once: bool, limit_s: float) -> Change:
        number = 1 if self.change is None else self.change.number + 1
        until = time.monotonic() + limit_s if limit_s else float("inf")
        self.change = Change(number, what, targets, at_once, until, limit_s)
        self._why_pending = ""
        self._job.journal.event("scaling", what=what, targets=targets, at_once=at_once)
        return self.change

    def _ask_for(self, group: ResourceGroup, more: int) -> None:
        """Ask the manager for further slots of a group: those given up before, then new ones."""
        job, change = self._job, self.change

        def refused(error: Twister2Error) -> None:
            if self.change is change:  # else it comes late: that change is over, and another one is under way
                self._fail(error)

        again = sorted(place for place, name in self._given_up.items() if name == group.name)[:more]
        new = [*range(self.places, self.places + more - len(again))]
        for place in (*again, *new):
            self._given_up.pop(place, None)
            self.pending[place] = Slot(-1, place=place, resources=group)
        if again:
            job.manager.start_more(job.attempt, again, refused)
        if new:
            self.places += len(new)
            job.manager.resize(self.places, attrs.evolve(group, count=len(new)), refused)

    # -- on the way ----------------------------------------------------------------------------------------------------

    def stands_by(self, slot: Slot) -> None:
        """A copy of a pending slot has joined."""
        self._job.journal.event("worker_stands_by", slot=slot.place, host=slot.facts["node"]["host"])
        self._look()

    def say_bye(self, slot: Slot, why: str) -> None:
        """A copy that stood by has gone."""
        slot.phase = "absent"
        if not self._job.state.final:  # else it was told to
            self._fail(self._not_started(slot, why))

    def committed(self) -> None:
        """The program has made a commit."""
        change = self.change
        if change is None or change.over or change.ending:
            return
        if change.targets and self._job.checkpoints.per_worker:
            self._fail(self._of_each_worker())
        elif not self._missing():
            self._end_attempt(change)

    def status(self, status: JobStatus) -> None:
        """What the manager says, also of slots that are not part of an attempt yet."""
        self._why_pending = status.pending
        for place, text in status.slots.items():
            slot = self.pending.get(place)
            if slot is not None and slot.phase == "absent" and (how := copy_ended(text)):
                self._fail(self._not_started(slot, f"its copy {how}"))
        self._look()

    def tick(self, now: float) -> None:
        """Deadlines."""
        change = self.change
        if change is None or change.over or change.ending:
            return
        lost_after_s = self._job.facts.config.lost_after_s
        for slot in self.pending.values():
            if slot.phase == "standby" and now - slot.heard > lost_after_s:
                self._fail(self._not_started(slot, f"it was silent for {lost_after_s:g} s"))
                return
        if now > change.until:
            self._fail(
                DeadlineError(
                    f"the job was not scaled within {change.limit_s:g} s",
                    why=f"it waited for {change.waits_for}",
                    remedy="allow more time (--deadline); --now goes on from the latest commit without another"
                    if not self._missing()
                    else "allow more time (--deadline), or ask for fewer workers",
                )
            )
        elif change.at_once:
            self._look()

    def _missing(self) -> list[int]:
        return [place for place, slot in sorted(self.pending.items()) if slot.phase != "standby"]

    def _look(self) -> None:
        """Find out what is waited for, and go on when it is nothing."""
        change = self.change
        if change is None or change.over or change.ending:
            return
        missing = self._missing()
        if missing:
            why = f" ({self._why_pending})" if self._why_pending else ""
            plural = "s" if len(missing) > 1 else ""
            change.waits_for = f"new worker{plural} in slot{plural} {listed(missing)}{why}"
        elif change.at_once:
            self._end_attempt(change)
        else:
            change.waits_for = "the program's next commit"

    def _end_attempt(self, change: Change) -> None:
        # Ended for another reason, or about to begin: it may be the end of the job; else this is tried again.
        if self._job.aborting or self._job.state is not JobState.RUNNING:
            return
        change.ending, change.waits_for = True, ""
        latest = self._job.checkpoints.latest
        self._job.end_attempt_for(
            StepAbortedError(
                "the attempt ends here, and the next one begins",
                why=f"{change.what}; it goes on from " + (f"commit {latest}" if latest else "the start"),
                remedy="nothing is wrong; what was done since then is done again",
            )
        )

    def _not_started(self, slot: Slot, why: str) -> JobFailedError:
        return JobFailedError(
            f"a new worker (slot {slot.place}) did not come",
            why=why,
            remedy="see 'twister2 logs JOB --manager'; the job goes on with the workers that it has",
        )

    def _fail(self, error: Twister2Error) -> None:
        """The change came to nothing; the attempt goes on."""
        change = self.change
        if change is None or change.over or change.ending:
            return
        change.over, change.error, change.waits_for = True, error, ""
        self._job.journal.event("scaling_failed", error=error.to_dict())
        gone, self.pending = self.pending, {}
        self._let_go([*gone.values()])

    def _let_go(self, slots: list[Slot]) -> None:
        """Slots that are not needed any more: their copies end, and the manager takes back what it can."""
        job = self._job
        for slot in slots:
            if slot.phase not in ("absent", "lost"):
                job.post(slot.peer, "end", {})
            job.forget(slot)
            self._given_up[slot.place] = slot.group
        top = self._top()
        held = [slot.place for slot in slots if slot.place < top]
        if held:
            job.manager.stop(held)
        self._give_back()

    def _top(self) -> int:
        """How many slots the allocation needs to have for those that are in use."""
        top = self.places
        while top - 1 in self._given_up:
            top -= 1
        return top

    def _give_back(self) -> None:
        """The manager takes back the slots at the end that nobody uses."""
        job, top = self._job, self._top()
        if top < self.places:
            for place in range(top, self.places):
                del self._given_up[place]
            self.places = top
            job.manager.resize(
                top, None, lambda error: job.journal.event("rm_error", what="give slots back", error=error.to_dict())
            )

    def restored(self, places: int) -> None:
        """The master was started again: what an earlier life of it had asked for and does not use is given back."""
        self.places = places
        used = {slot.place for slot in self._job.slots}
        last = self._job.slots[-1].group
        self._given_up = {place: last for place in range(places) if place not in used}
        self._give_back()

    def job_ended(self) -> None:
        """Slots that were asked for are not needed any more."""
        gone, self.pending = self.pending, {}
        if gone:
            self._let_go([*gone.values()])

    # -- the next attempt ----------------------------------------------------------------------------------------------

    @property
    def ends_attempt(self) -> bool:
        """Whether the attempt was ended on purpose."""
        return self.change is not None and self.change.ending and not self.change.over

    def apply(self) -> str:
        """Between two attempts: the slots of the job are as the change wants them; its words, empty without one."""
        change = self.change
        if change is None or not self.ends_attempt:
            return ""
        slots, leaving = self._job.slots, []
        for name, count in change.targets.items():
            own = [slot for slot in slots if slot.group == name]
            leaving += own[count:]
        kept = [slot for slot in slots if slot not in leaving] + [*self.pending.values()]
        self.pending = {}
        order = {name: number for number, name in enumerate(self._groups)}
        kept.sort(key=lambda slot: (order[slot.group], slot.place))
        for number, slot in enumerate(kept):
            slot.number = number
        slots[:] = kept
        change.over = True
        if leaving:
            self._let_go(leaving)
        return change.what
