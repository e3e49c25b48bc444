"""The job master's process: sockets, timers and the resource manager around the state machine."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.config import Resolved
from twister2.control.channel import Listener
from twister2.control.echo import Echo
from twister2.control.folders import job_folder, runtime_folder
from twister2.control.releasing import release
from twister2.host import Pins, PluginHost
from twister2.master.again import try_again
from twister2.master.calls import CallThread
from twister2.master.causes import TOLD_TO_END, given_up
from twister2.master.facts import JobFacts
from twister2.master.job import Job
from twister2.master.journal import Journal
from twister2.master.observing import MasterObservers
from twister2.master.polling import Polling
from twister2.master.returning import Note
from twister2.master.store import JobStore
from twister2.master.walltime import Walltime
from twister2.master.watch import Watch
from twister2.spec.errors import Twister2Error
from twister2.spec.rm import JobHandle, JobState, JobStatus, ResourceManager, RmContext
from twister2.worker.segments import Segments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.control.master_ticket import MasterTicket
    from twister2.control.ticket import Ticket
    from twister2.master.manager import Refused
    from twister2.spec.rm import ResourceGroup

POLL_S = 0.1
GOODBYE_S = 2.0
"""How long workers that say nothing more are waited for when their grace is over,"""
LATE_S = 10.0
"""and how much longer those at the most that still do."""
HAND_OVER_S = 60.0
"""How long clients that are still connected may take to take in the end of the job, with all results."""
CLIENT_S = 12.0
"""How long a client that is there may say nothing: it finds out that its connection has broken, and makes another."""
CLEAN_S = 30.0
"""How long the manager may take to end or to remove what is left."""
STOPPED_S = 2.0
"""Seconds between two turns that say that this process was stopped, or its machine was."""
TOLD_S = 10.0
"""How long the manager may take to hear of the end of the job, or to say whether this process is started again."""
LEFT = 75
"""Exit code of a master that another life of it follows (EX_TEMPFAIL)."""
CACHE_S = 1.0
"""How old a resource manager's answer may be."""


class MasterProcess:
    """Runs one job's master until the job is over."""

    job: Job

    def __init__(self, ticket: MasterTicket, package: bytes, lifeline: int | None) -> None:
        """
        :param lifeline: a descriptor whose end of file says that the client has gone; None for a detached master.
        """
        self._ticket, self._lifeline = ticket, lifeline
        host = PluginHost.from_pins(Pins.from_dict(ticket.pins))
        resolved = Resolved.from_dict(ticket.resolved, host)
        self._config = resolved.job
        self._private = None if ticket.shares_state else runtime_folder(ticket.job_id) / "master"
        self._folder = pathlib.Path(ticket.folder)
        if self._private is not None:
            self._folder = job_folder(self._private, ticket.job_id)
        state_root = str(self._folder.parent.parent)
        self._listener = Listener(ticket.listen, ticket.master_public, ticket.master_secret)
        rm_name = resolved.job.rm
        backend: ResourceManager = host.create(
            "rm", rm_name, resolved.plugin("rm", rm_name), context=RmContext(state_dir=state_root)
        )
        self._backend = backend
        self._returns = backend.offers.restarts_master and not ticket.in_client
        self._watch = Watch(self._silent_s)
        self._calls = CallThread("the resource manager plugin", self._watch.beat)  # who waits for it does not hang
        self._state_calls = CallThread("the state plugin")
        self._handle: JobHandle | None = None
        self._store = JobStore(host, resolved, state_root)
        shared = "state" in backend.offers.shared_files
        facts = JobFacts.of(
            ticket,
            resolved.job,
            state_root,
            state_shared=shared,
            returns=self._returns,
            elsewhere=not backend.offers.same_host,
        )
        mirror = lambda event: self.job.clients.tell("event", event)  # noqa: E731 - who does not see these files
        self._journal = Journal(self._folder, mirror if self._private else None, limit_mb=resolved.job.log_limit_mb)
        new = self._folder / "addresses.new"
        new.write_text(" ".join(self._listener.addresses))
        new.rename(self._folder / "addresses")  # as a whole: the client looks for it meanwhile
        self.job = Job(facts, ticket.join_key, self._listener.send, self, self._journal, self._store, self._state_calls)
        self.job.package = package
        if self._private is not None and ticket.detached:  # nobody else keeps what goes with this master's files
            self.job.clients.listeners.append(Echo(1).hear)
        MasterObservers(host, resolved, self.job, self._journal, ticket.program)
        self.job.addresses = self._listener.addresses
        self._walltime = Walltime(self.job, self._renew if self._returns and backend.offers.renews else None)
        self._slots_from = 0.0
        self._polling = Polling(self._config, same_host=backend.offers.same_host)
        self._turned = time.monotonic()
        self._segments = Segments(ticket.segments)
        self._restarting = self._signalled = False
        self._lives = not self._returns
        """Whether it is known how an earlier life of this master has left the job: until then nobody is heard."""
        self._noted = False
        """Whether the manager knows how the job ended, so that this process is not to be started again."""
        self._leaves = False
        """Whether this life ends here, and the manager begins the next one."""

    # -- what the state machine asks of the resource manager -----------------------------------------------------------

    def publish(self, ticket: Ticket) -> None:
        note = self._note()

        def publish(rm: ResourceManager, handle: JobHandle) -> None:
            if self._remember(rm, handle, note):
                rm.publish(handle, ticket.encode())

        self._insist("publish the ticket", publish)

    def _note(self) -> Note | None:
        """What a later life of this master is to know; None where there is none."""
        return self.job.returning.note() if self._returns and self._lives else None

    def _remember(self, rm: ResourceManager, handle: JobHandle, note: Note | None) -> bool:
        """Leave a note for a later life; False when there is one already: this one was taken to be dead, and leaves."""
        if note is None:
            return True
        kept = rm.remembered(handle)
        if kept is not None and Note.decode(kept).master > note.master:
            self._leaves = True
            return False
        rm.remember(handle, note.encode(), JobState(note.ended["state"]) if note.ended else None)
        return True

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
        return self._handle is not None and (not slots or self._backend.offers.restarts_slots)

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
        offers = self._backend.offers
        if self._handle is None:
            return "its allocation is not known yet"
        return "" if offers.resizes else offers.why.get("resizes", "the resource manager does not offer it")

    def stop(self, slots: Sequence[int]) -> None:
        grace_s = self._config.kill_grace_s
        noted = lambda error: None  # noqa: E731 - it is in the event log, and copies without a slot end by themselves
        self._call("stop workers", lambda rm, handle: rm.stop_attempt(handle, slots, grace_s), noted)

    def _renew(self) -> None:
        self._call("begin the job anew", lambda rm, handle: rm.renew(handle), self._walltime.not_renewed)

    def _call(self, what: str, function: Any, failed: Refused, then: Callable[[], None] = lambda: None) -> None:
        """A call of which ``failed`` hears the error."""
        handle, backend = self._handle, self._backend

        def done(_: Any, error: Twister2Error | None) -> None:
            if error is not None:
                self._rm_error(what, error)
                failed(error)
            then()

        if handle is not None:
            self._calls.call(lambda: None if self._leaves else function(backend, handle), done)

    def _insist(self, what: str, function: Any, then: Callable[[], None] = lambda: None) -> None:
        """A call that is made again while the manager is away; an error is the end of the job."""
        handle, backend, attempt = self._handle, self._backend, self.job.attempt
        if handle is None:
            return
        deadline_s = 0.0 if backend.offers.same_host else self._config.start_deadline_s  # on this host none is away

        def wanted() -> bool:
            return not (self._leaves or self._signalled or self.job.state.final or self.job.attempt != attempt)

        def troubled(error: Twister2Error) -> None:
            self._rm_error(what, error)
            self.job.rm_troubled(f"{what}: {error.what} ({error.why}); it is tried again")

        def call() -> None:
            once = lambda: None if self._leaves else function(backend, handle)  # noqa: E731 - one line of a call
            tell = lambda error: self._calls.tell(lambda: troubled(error))  # noqa: E731 - likewise
            try_again(once, lambda: backend.state(handle), wanted, tell, deadline_s)

        def done(_: Any, error: Twister2Error | None) -> None:
            if error is not None:
                self._rm_error(what, error)
                if wanted() and self.job.state is not JobState.RUNNING:  # else all have come without it
                    self.job.fail(error)
            then()

        self._calls.call(call, done)

    def _rm_error(self, what: str, error: Twister2Error) -> None:
        self._journal.event("rm_error", what=what, error=error.to_dict())

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until the job is over and everything it created is gone.

        :return: the exit code: 0 when it completed, or has ended and the manager knows how; :data:`LEFT`.
        """
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._ticket.handle:
            self._know(JobHandle(**self._ticket.handle))
        linger_s = HAND_OVER_S
        try:
            with self._watch:
                while not self.job.state.final and not self._leaves:
                    self._watch.beat()
                    self._turn()
            if self._leaves or not self._end_is_known():
                linger_s = 0.0
                return LEFT
            self._say_goodbye()
            tidied = self._clean()
            self.job.announce_end()
            if self._private is None:  # else what it has written down is removed, and a client or the manager keeps it
                self._journal.amend(tidied=tidied)
            self._wait_until_heard()
            self._remove_secrets()
        finally:
            self._listener.close(linger_s=linger_s)
            self._journal.close()
            if self._state_calls.close():  # a call that hangs still uses it
                self._store.close()
            self._calls.close()
        return 0 if self._noted or self.job.state is JobState.COMPLETED else 1

    @property
    def _silent_s(self) -> float:
        """How long this process may do nothing until it counts as hanging; 0: for ever, as its client."""
        if self._ticket.in_client:
            return 0.0
        return self._config.master_return_s / 2 if self._returns else self._config.master_lost_s

    def _end_is_known(self) -> bool:
        """Tell the manager that the job has ended, so that it is not begun again should this process die now; then the
        workers may go. False when a later life of this master has the job.
        """
        handle, backend = self._handle, self._backend
        if not self._returns:
            return True
        self._noted = self.job.returning.was_over
        if handle is not None and not self._noted:
            note = self._note()
            error = self._calls.finish(lambda: self._remember(backend, handle, note), TOLD_S)
            self._noted = error is None
            if error is not None:
                self._rm_error("note the end of the job", error)
        if not self._leaves:
            self.job.dismiss()
        return not self._leaves

    def _turn(self) -> None:
        if self._signalled:  # before what workers say that were told to end together with this master
            self._told_to_end()
        if self._leaves:
            return
        wait = self._drain() if self._lives else True
        if wait:
            watched = [self._calls.fileno(), self._state_calls.fileno()]
            if self._lives:
                watched.append(self._listener.fileno())
            if self._lifeline is not None:
                watched.append(self._lifeline)
            ready = select.select(watched, [], [], POLL_S)[0]
            if self._lifeline is not None and self._lifeline in ready and self._client_has_gone():
                self._lifeline = None
                self.job.kill("the client that the job belongs to has gone")
        before, self._turned = self._turned, time.monotonic()
        if self._turned - before > STOPPED_S and self._ended_by_another():
            return
        self._calls.deliver()
        self._state_calls.deliver()
        self.job.tick()
        self._walltime.look()
        self._ask_state()

    def _ended_by_another(self) -> bool:
        """Whether another shell has found the job without a master meanwhile, and written down its end: the job then
        ends so. An end that this master has written down itself is no other's.
        """
        if self.job.state.final or not self._journal.ended():
            return False
        self.job.kill("another shell has ended it while its job master was stopped")
        return True

    def _client_has_gone(self) -> bool:
        """The client says nothing over the pipe: what makes it readable is its end."""
        assert self._lifeline is not None
        return not os.read(self._lifeline, 1)

    def _drain(self) -> bool:
        """Take all messages that have come; whether to wait for more."""
        taken = 0
        while taken < 1000 and (message := self._listener.receive(0)) is not None:
            self.job.receive(*message)
            taken += 1
        return taken < 1000

    def _found(self, handle: JobHandle | None, error: Twister2Error | None) -> None:
        self._polling.answered()
        if handle is not None and self._handle is None:
            self._know(handle)
        elif error is not None:
            self._rm_error("find the allocation", error)

    def _know(self, handle: JobHandle) -> None:
        self._handle, backend = handle, self._backend
        if self._returns:
            self._calls.call(lambda: backend.remembered(handle), self._remembered)
        else:
            self.publish(self.job.ticket())

    def _remembered(self, note: bytes | None, error: Twister2Error | None) -> None:
        """What an earlier life of this master has left, if there was one."""
        if error is not None:
            self._rm_error("ask for the notes of this master", error)
            self._handle = None  # it is looked for again, and asked again
            return
        self._lives = True
        try:
            goes_on = self.job.returning.begin(note)
        except Twister2Error as wrong:
            self.job.fail(wrong)
            return
        if note is not None:
            self._walltime.began(self.job.returning.begun)
        if goes_on:
            self.publish(self.job.ticket())
            self.job.returning.published()

    def _told_to_end(self) -> None:
        """The manager ends this process: to start it again (elsewhere, say), for a reason it knows, or for somebody."""
        handle, backend, answers = self._handle, self._backend, list[bool | JobStatus]()
        if self._returns and handle is not None:
            self._calls.finish(lambda: answers.append(backend.master_returns(handle)), TOLD_S)
            if answers == [False]:
                self._calls.finish(lambda: answers.append(backend.state(handle)), TOLD_S)
        match answers:
            case [True, *_]:
                self._leaves = True
            case [False, JobStatus(state=JobState.FAILED, reason=why)]:
                self.job.fail(given_up(why))
            case _:
                self.job.kill(TOLD_TO_END)

    def _ask_state(self) -> None:
        handle, backend = self._handle, self._backend
        if not (asked := self._polling.due(self.job, time.monotonic())):
            return
        if handle is None:
            self._calls.call(lambda: backend.find(self._ticket.job_id), self._found)
            return

        def done(status: JobStatus | None, error: Twister2Error | None) -> None:
            self._polling.answered()
            if error is not None:
                self.job.rm_troubled(f"the resource manager cannot be asked: {error.what} ({error.why})")
            if status is not None and self._lives:
                self._walltime.ends_at(status.ends_at)
                if self._restarting or asked < self._slots_from:
                    if status.state.final:  # so it was without the copies that are being started
                        return
                    status = attrs.evolve(status, slots={})  # it may still show the copies that were given up
                self.job.rm_status(status)

        self._calls.call(lambda: backend.state(handle), done)

    def _on_signal(self, *_: Any) -> None:
        self._signalled = True

    # -- the end -------------------------------------------------------------------------------------------------------

    def _say_goodbye(self) -> None:
        until = time.monotonic() + GOODBYE_S + self._config.kill_grace_s
        if self.job.returning.was_over:  # clients look for this life, and so do workers of the one before
            until += self._config.master_return_s
            self.publish(self.job.ticket())
        while (now := time.monotonic()) < until or (now < until + LATE_S and self._still_heard(now)):
            if self.job.all_gone and (self.job.clients.ever_came or not self._expects_client):
                return
            self._calls.deliver()
            if self._drain():
                select.select([self._listener.fileno()], [], [], 0.02)

    def _wait_until_heard(self) -> None:
        """Until clients that are there have heard the end: with a connection that breaks, what the system has taken for
        them is lost, and they come again for it.
        """
        until = time.monotonic() + HAND_OVER_S
        while self.job.clients.waits_to_hear(CLIENT_S) and time.monotonic() < until:
            if self._drain():
                select.select([self._listener.fileno()], [], [], 0.02)

    def _still_heard(self, now: float) -> bool:
        """Whether a worker that has not gone yet has said something of late."""
        return any(not slot.gone and now - slot.heard < GOODBYE_S for slot in self.job.slots)

    @property
    def _expects_client(self) -> bool:
        """Whether the submitting client is still there, or on its way, to hear of the end."""
        return not self._ticket.detached and (not self._ticket.in_client or self._lifeline is not None)

    def _clean(self) -> bool:
        """End and remove everything the job has with the manager, and its folder of sockets on this host; whether
        nothing is left with the manager.
        """
        left: list[str] = []
        handle, backend = self._handle, self._backend
        if handle is not None and self._ticket.in_client:
            grace_s = 0.2 if self.job.all_gone else self._config.kill_grace_s
            error = self._calls.finish(lambda: left.extend(release(backend, handle, grace_s)), CLEAN_S)
            left += [] if error is None else [error.what]
            if left:
                self._journal.event("rm_error", what="end and remove what is left", left=left)
        if self._backend.offers.same_host:
            self._segments.sweep()  # supervisors that were killed could not
        with contextlib.suppress(OSError):
            shutil.rmtree(self._private or self._ticket.runtime_dir)
            if self._private is not None:
                self._private.parent.rmdir()
        return not left

    def _remove_secrets(self) -> None:
        """Nobody may ever ask for a detached job. Last of all: another life of this master would need its ticket."""
        handle, backend = self._handle, self._backend
        if handle is None or self._ticket.in_client or not self._ticket.detached or (self._returns and not self._noted):
            return
        if not self.job.returning.was_over and any(slot.phase == "absent" for slot in self.job.slots):
            return  # without its ticket a copy that is still to come would not even start, and so never end
        if (error := self._calls.finish(lambda: backend.remove_secrets(handle), TOLD_S)) is not None:
            self._rm_error("remove the tickets", error)
