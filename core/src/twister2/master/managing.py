"""A job master's calls to its resource manager: one after another, in a thread of their own; what an attempt cannot do
without is asked for again while the manager is away.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.control.releasing import release
from twister2.master.again import try_again
from twister2.master.calls import CallThread
from twister2.master.polling import Polling
from twister2.master.returning import Note
from twister2.spec.errors import SubmissionRefusedError, Twister2Error
from twister2.spec.rm import JobHandle, JobState, JobStatus, ResourceManager

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.config import JobConfig
    from twister2.control.master_ticket import MasterTicket
    from twister2.control.ticket import Ticket
    from twister2.master.job import Job
    from twister2.master.journal import Journal
    from twister2.master.manager import Refused
    from twister2.master.walltime import Walltime
    from twister2.spec.rm import ResourceGroup

CLEAN_S = 30.0
"""How long the manager may take to end or to remove what is left."""
TOLD_S = 10.0
"""How long it may take to hear of the end of the job, or to say whether this process is started again."""
CLOSE_S = 1.0
"""How long a call of which nobody wants to hear any more may take to end before it is left alone."""
CACHE_S = 1.0
"""How old its answer may be."""
REFUSALS = 10
"""So many times in a row it refuses to say how an earlier life of this master has left the job, about one a second,
until that is for good: a server that has just come back may not know yet who may do what.
"""


class ManagerCalls:
    """The resource manager of one job, as the state machine and the master's loop see it
    (:class:`~twister2.master.manager.Manager`).

    :ivar handle: the allocation, once it is known. :ivar returns: whether the manager starts this master again.
    :ivar lives: whether it is known how an earlier life of this master has left the job: until then nobody is heard.
    :ivar leaves: whether this life ends here, and the manager begins the next one.
    :ivar told_to_end: whether the master was told to end: what failed is not tried again.
    :ivar noted: whether the manager knows how the job ended, so that this process is not to be started again.
    :ivar refused: why this master can never begin, once that is sure.
    """

    job: Job
    walltime: Walltime

    def __init__(
        self,
        make: Callable[[], ResourceManager],
        ticket: MasterTicket,
        config: JobConfig,
        journal: Journal,
        waits: Callable[[], None] = lambda: None,
    ) -> None:
        """
        :param make: makes the backend. :param waits: called now and then while the master waits for an answer: it
            does not hang.
        """
        self._make, self._waits, self._backend = make, waits, make()
        self._ticket, self._config, self._journal = ticket, config, journal
        self.handle: JobHandle | None = None
        self.offers = self._backend.offers
        self.returns = self.offers.restarts_master and not ticket.in_client
        self.lives = not self.returns
        self.leaves = self.told_to_end = self.noted = False
        self.refused: Twister2Error | None = None
        self._refusals = 0
        self._noted_state = JobState.QUEUED
        self._calls = CallThread("the resource manager plugin", waits)
        self._polling = Polling(config, same_host=self.offers.same_host)
        self._restarting, self._slots_from = False, 0.0

    # -- what the state machine asks for -------------------------------------------------------------------------------

    def publish(self, ticket: Ticket) -> None:
        note = self._note()

        def publish(rm: ResourceManager, handle: JobHandle) -> None:
            if self._remember(rm, handle, note):
                rm.publish(handle, ticket.encode())

        self._insist("publish the ticket", publish)

    def start_attempt(self, attempt: int, slots: Sequence[int]) -> None:
        world, grace_s = self._ticket.world, self._config.kill_grace_s

        def start(rm: ResourceManager, handle: JobHandle) -> None:
            absent = {slot.place for slot in self.job.slots if slot.phase == "absent"}
            missing = [place for place in slots if place in absent]  # a try that failed may have started others
            if not missing or self.job.attempt != attempt or self.job.state.final:
                return
            if world is not None:  # supervisors that live are members of the old world
                rm.stop_attempt(handle, slots, grace_s)
                rm.start_attempt(handle, attempt, slots, world)
                return
            # A lost copy may be stopped or cut off, not ended, and holds its slot. Where it cannot be reached it
            # is refused, should it ever come back.
            with contextlib.suppress(Twister2Error):
                rm.stop_attempt(handle, missing, 0.0)
            rm.start_attempt(handle, attempt, missing)

        self._restarting = True
        self._insist("start workers", start, self._restarted)

    def _restarted(self) -> None:
        self._restarting = False
        self._slots_from = time.monotonic() + CACHE_S

    def look(self) -> None:
        self._polling.soon()

    def restarts(self, slots: Sequence[int]) -> bool:
        return self.handle is not None and (not slots or self.offers.restarts_slots)

    def start_more(self, attempt: int, slots: Sequence[int], refused: Refused) -> None:
        self._restarting = True
        start = lambda rm, handle: rm.start_attempt(handle, attempt, slots)  # noqa: E731 - one line of a call
        self._call("start more workers", start, refused, self._restarted)

    def resize(self, n_slots: int, group: ResourceGroup | None, refused: Refused) -> None:
        self._restarting = True
        note = self._note()

        def resize(rm: ResourceManager, handle: JobHandle) -> None:
            if self._remember(rm, handle, note):
                rm.resize(handle, n_slots, group)

        self._call(f"resize the allocation to {n_slots} slots", resize, refused, self._restarted)

    def resizes(self) -> str:
        if self.handle is None:
            return "its allocation is not known yet"
        return "" if self.offers.resizes else self.offers.why.get("resizes", "the resource manager does not offer it")

    def stop(self, slots: Sequence[int]) -> None:
        grace_s = self._config.kill_grace_s
        noted = lambda error: None  # noqa: E731 - it is in the event log, and copies without a slot end by themselves
        self._call("stop workers", lambda rm, handle: rm.stop_attempt(handle, slots, grace_s), noted)

    @property
    def renews(self) -> bool:
        """Whether the manager begins the whole job anew (:meth:`renew`)."""
        return self.returns and self.offers.renews

    def renew(self, refused: Refused) -> None:
        """Begin the whole job anew; ``refused`` hears why that cannot be."""
        self._call("begin the job anew", lambda rm, handle: rm.renew(handle), refused)

    # -- the allocation ------------------------------------------------------------------------------------------------

    def know(self, handle: JobHandle) -> None:
        """This is the allocation: go on from what an earlier life of this master has left, and tell the workers."""
        self.handle, backend = handle, self._backend
        if self.returns:
            self._calls.call(lambda: backend.remembered(handle), self._remembered)
        else:
            self.publish(self.job.ticket())

    def _remembered(self, note: bytes | None, error: Twister2Error | None) -> None:
        """What an earlier life of this master has left, if there was one."""
        if error is not None:
            self._does_not_say("ask for the notes of this master", error)
            self.handle = None  # it is looked for again, and asked again
            return
        self.lives = True
        try:
            goes_on = self.job.returning.begin(note)
        except Twister2Error as wrong:
            self.job.fail(wrong)
            return
        if note is not None:
            self.walltime.began(self.job.returning.begun)
        if goes_on:
            self.publish(self.job.ticket())
            self.job.returning.published()

    def ask_state(self) -> None:
        """Ask how the job is, when it is time for that; as long as the allocation is not known, look for it."""
        handle, backend = self.handle, self._backend
        if not (asked := self._polling.due(self.job, time.monotonic())):
            return
        if handle is None:
            self._calls.call(lambda: backend.find(self._ticket.job_id), self._found)
            return

        def done(status: JobStatus | None, error: Twister2Error | None) -> None:
            self._polling.answered()
            if error is not None:
                self.job.rm_troubled(f"the resource manager cannot be asked: {error.what} ({error.why})")
            if status is not None and self.lives:
                self.walltime.ends_at(status.ends_at)
                if self._restarting or asked < self._slots_from:
                    if status.state.final:  # so it was without the copies that are being started
                        return
                    status = attrs.evolve(status, slots={})  # it may still show the copies that were given up
                self.job.rm_status(status)

        self._calls.call(lambda: backend.state(handle), done)

    def note_state(self) -> None:
        """Shells that cannot reach this master, nor see its files, find what the job does: one note at each change."""
        state = self.job.state
        if self._ticket.shares_state or self.handle is None or state is self._noted_state or state.final:
            return  # the end is noted before anybody hears of it
        if (note := self._note()) is not None:
            unheard = lambda error: None  # noqa: E731 - it is in the event log, and the next change is noted again
            self._call("note the state", lambda rm, handle: self._remember(rm, handle, note), unheard)

    def _found(self, handle: JobHandle | None, error: Twister2Error | None) -> None:
        self._polling.answered()
        if handle is not None and self.handle is None:
            self.know(handle)
        elif error is not None:
            self._does_not_say("find the allocation", error)

    def _does_not_say(self, what: str, error: Twister2Error) -> None:
        """Without an answer this master cannot begin: it asks again, unless the manager does not let it."""
        self._failed(what, error)
        self._refusals = self._refusals + 1 if isinstance(error, SubmissionRefusedError) else 0
        if self._refusals >= REFUSALS:
            self.refused = error

    # -- the end -------------------------------------------------------------------------------------------------------

    def why_ended(self) -> list[bool | JobStatus]:
        """Ask why this process is told to end: whether it is started again, and if not, how the job is; nothing where
        it never is. Asked beside all other calls, of which one may hang.

        No answer counts as yes: should nobody start it again, then the workers end by themselves, and a job that could
        go on is not ended because a server is away.
        """
        handle, answers = self.handle, list[bool | JobStatus]()
        if not self.returns or handle is None:
            return []
        backend, calls = self._make(), CallThread("the resource manager plugin", self._waits)
        calls.finish(lambda: answers.append(backend.master_returns(handle)), TOLD_S)
        if answers == [False]:
            calls.finish(lambda: answers.append(backend.state(handle)), TOLD_S)
        if calls.close(CLOSE_S):
            backend.close()
        return answers or [True]

    def note_end(self) -> None:
        """Tell the manager that the job has ended, so that it is not begun again should this process die now."""
        handle, backend = self.handle, self._backend
        self.noted = self.job.returning.was_over
        if handle is not None and not self.noted:
            note = self._note()
            error = self._calls.finish(lambda: self._remember(backend, handle, note), TOLD_S)
            self.noted = error is None
            if error is not None:
                self._failed("note the end of the job", error)

    def release(self, grace_s: float) -> list[str]:
        """End and remove everything the job has with the manager; what is left, in words."""
        left: list[str] = []
        handle, backend = self.handle, self._backend
        if handle is not None:
            error = self._calls.finish(lambda: left.extend(release(backend, handle, grace_s)), CLEAN_S)
            left += [] if error is None else [error.what]
            if left:
                self._journal.event("rm_error", what="end and remove what is left", left=left)
        return left

    def remove_secrets(self) -> None:
        """Remove tickets and tokens from where the manager has them."""
        handle, backend = self.handle, self._backend
        if handle is None:
            return
        if (error := self._calls.finish(lambda: backend.remove_secrets(handle), TOLD_S)) is not None:
            self._failed("remove the tickets", error)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable when an answer waits for :meth:`deliver`."""
        return self._calls.fileno()

    def deliver(self) -> None:
        """Hand out what was answered."""
        self._calls.deliver()

    def close(self) -> None:
        """Wait a moment for the calls that still run."""
        self._calls.close()

    def _note(self) -> Note | None:
        """What a later life of this master is to know; None where there is none."""
        if not (self.returns and self.lives):
            return None
        self._noted_state = self.job.state
        return self.job.returning.note()

    def _remember(self, rm: ResourceManager, handle: JobHandle, note: Note | None) -> bool:
        """Leave a note for a later life; False when there is one already: this one was taken to be dead, and leaves."""
        if note is None:
            return True
        kept = rm.remembered(handle)
        if kept is not None and Note.decode(kept).master > note.master:
            self.leaves = True
            return False
        rm.remember(handle, note.encode(), JobState(note.ended["state"]) if note.ended else None)
        return True

    def _call(self, what: str, function: Any, failed: Refused, then: Callable[[], None] = lambda: None) -> None:
        """A call of which ``failed`` hears the error."""
        handle, backend = self.handle, self._backend

        def done(_: Any, error: Twister2Error | None) -> None:
            if error is not None:
                self._failed(what, error)
                failed(error)
            then()

        if handle is not None:
            self._calls.call(lambda: None if self.leaves else function(backend, handle), done)

    def _insist(self, what: str, function: Any, then: Callable[[], None] = lambda: None) -> None:
        """A call that is made again while the manager is away; an error is the end of the job."""
        handle, backend, attempt = self.handle, self._backend, self.job.attempt
        if handle is None:
            return
        deadline_s = 0.0 if self.offers.same_host else self._config.start_deadline_s  # on this host none is away

        def wanted() -> bool:
            return not (self.leaves or self.told_to_end or self.job.state.final or self.job.attempt != attempt)

        def troubled(error: Twister2Error) -> None:
            self._failed(what, error)
            self.job.rm_troubled(f"{what}: {error.what} ({error.why}); it is tried again")

        def call() -> None:
            once = lambda: None if self.leaves else function(backend, handle)  # noqa: E731 - one line of a call
            tell = lambda error: self._calls.tell(lambda: troubled(error))  # noqa: E731 - likewise
            try_again(once, lambda: backend.state(handle), wanted, tell, deadline_s)

        def done(_: Any, error: Twister2Error | None) -> None:
            if error is not None:
                self._failed(what, error)
                if wanted() and self.job.state is not JobState.RUNNING:  # else all have come without it
                    self.job.fail(error)
            then()

        self._calls.call(call, done)

    def _failed(self, what: str, error: Twister2Error) -> None:
        self._journal.event("rm_error", what=what, error=error.to_dict())
