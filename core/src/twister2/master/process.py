"""The job master's process: sockets and timers around the state machine."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

from twister2.config import Resolved
from twister2.control.channel import Listener
from twister2.control.echo import Echo
from twister2.control.folders import job_folder, runtime_folder
from twister2.host import Pins, PluginHost
from twister2.master.calls import CallThread
from twister2.master.causes import TOLD_TO_END, given_up
from twister2.master.facts import JobFacts
from twister2.master.job import Job
from twister2.master.journal import Journal
from twister2.master.managing import ManagerCalls
from twister2.master.observing import MasterObservers
from twister2.master.store import JobStore
from twister2.master.walltime import Walltime
from twister2.master.watch import Watch
from twister2.spec.rm import JobHandle, JobState, JobStatus, ResourceManager, RmContext
from twister2.worker.segments import Segments

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.control.master_ticket import MasterTicket

POLL_S = 0.1
GOODBYE_S = 2.0
"""How long workers that say nothing more are waited for when their grace is over,"""
LATE_S = 10.0
"""and how much longer those at the most that still do."""
HAND_OVER_S = 60.0
"""How long clients that are still connected may take to take in the end of the job, with all results."""
CLIENT_S = 12.0
"""How long a client that is there may say nothing: it finds out that its connection has broken, and makes another."""
STOPPED_S = 2.0
"""Seconds between two turns that say that this process was stopped, or its machine was."""
LEFT = 75
"""Exit code of a master that another life of it follows (EX_TEMPFAIL)."""


class MasterProcess:
    """Runs one job's master until the job is over."""

    job: Job
    _watch: Watch

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
        rm_config, context = resolved.plugin("rm", rm_name), RmContext(state_dir=state_root)
        make: Callable[[], ResourceManager] = lambda: host.create("rm", rm_name, rm_config, context=context)  # noqa: E731
        mirror = lambda event: self.job.clients.tell("event", event)  # noqa: E731 - who does not see these files
        self._journal = Journal(self._folder, mirror if self._private else None, limit_mb=resolved.job.log_limit_mb)
        beat = lambda: self._watch.beat()  # noqa: E731 - who waits for the manager does not hang
        self._manager = manager = ManagerCalls(make, ticket, self._config, self._journal, beat)
        self._watch = Watch(self._silent_s)
        self._state_calls = CallThread("the state plugin")
        self._store = JobStore(host, resolved, state_root)
        shared = "state" in manager.offers.shared_files
        facts = JobFacts.of(
            ticket,
            resolved.job,
            state_root,
            state_shared=shared,
            returns=manager.returns,
            elsewhere=not manager.offers.same_host,
        )
        new = self._folder / "addresses.new"
        new.write_text(" ".join(self._listener.addresses))
        new.rename(self._folder / "addresses")  # as a whole: the client looks for it meanwhile
        self.job = manager.job = Job(
            facts, ticket.join_key, self._listener.send, manager, self._journal, self._store, self._state_calls
        )
        self.job.package = package
        if self._private is not None and ticket.detached:  # nobody else keeps what goes with this master's files
            self.job.clients.listeners.append(Echo(1).hear)
        MasterObservers(host, resolved, self.job, self._journal, ticket.program)
        self.job.addresses = self._listener.addresses
        self._walltime = manager.walltime = Walltime(self.job, manager.renew if manager.renews else None)
        self._turned = time.monotonic()
        self._segments = Segments(ticket.segments)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until the job is over and everything it created is gone.

        :return: the exit code: 0 when it completed, or has ended and the manager knows how; :data:`LEFT`.
        :raises SubmissionRefusedError: the manager does not let it see how an earlier life of it has left the job.
        """
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._ticket.handle:
            self._manager.know(JobHandle(**self._ticket.handle))
        linger_s = HAND_OVER_S
        try:
            with self._watch:
                while not self.job.state.final and not self._manager.leaves:
                    self._watch.beat()
                    self._turn()
            if self._manager.leaves or not self._end_is_known():
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
            self._manager.close()
        return 0 if self._manager.noted or self.job.state is JobState.COMPLETED else 1

    @property
    def _silent_s(self) -> float:
        """How long this process may do nothing until it counts as hanging; 0: for ever, as its client."""
        if self._ticket.in_client:
            return 0.0
        return self._config.master_return_s / 2 if self._manager.returns else self._config.master_lost_s

    def _end_is_known(self) -> bool:
        """The manager hears of the end of the job; then the workers may go. False when a later life of this master has
        the job.
        """
        manager = self._manager
        if manager.returns:
            manager.note_end()
            if not manager.leaves:
                self.job.dismiss()
        return not manager.leaves

    def _turn(self) -> None:
        if self._manager.told_to_end:  # before what workers say that were told to end together with this master
            self._told_to_end()
        if self._manager.leaves:
            return
        wait = self._drain() if self._manager.lives else True
        if wait:
            watched = [self._manager.fileno(), self._state_calls.fileno()]
            if self._manager.lives:
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
        self._manager.deliver()
        if self._manager.refused is not None:
            raise self._manager.refused
        self._state_calls.deliver()
        self.job.tick()
        self._walltime.look()
        self._manager.ask_state()
        self._manager.note_state()

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

    def _told_to_end(self) -> None:
        """The manager ends this process: to start it again (elsewhere, say), for a reason it knows, or for somebody."""
        match self._manager.why_ended():
            case [True, *_]:
                self._manager.leaves = True
            case [False, JobStatus(state=JobState.FAILED, reason=why)]:
                self.job.fail(given_up(why))
            case [False, JobStatus(reason=why)] if why:
                self.job.kill(f"the resource manager says: {why}")
            case _:
                self.job.kill(TOLD_TO_END)

    def _on_signal(self, *_: Any) -> None:
        self._manager.told_to_end = True

    # -- the end -------------------------------------------------------------------------------------------------------

    def _say_goodbye(self) -> None:
        until = time.monotonic() + GOODBYE_S + self._config.kill_grace_s
        if self.job.returning.was_over:  # clients look for this life, and so do workers of the one before
            until += self._config.master_return_s
            self._manager.publish(self.job.ticket())
        while (now := time.monotonic()) < until or (now < until + LATE_S and self._still_heard(now)):
            if self.job.all_gone and (self.job.clients.ever_came or not self._expects_client):
                return
            self._manager.deliver()
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
        grace_s = 0.2 if self.job.all_gone else self._config.kill_grace_s
        left = self._manager.release(grace_s) if self._ticket.in_client else []
        if self._manager.offers.same_host:
            self._segments.sweep()  # supervisors that were killed could not
        with contextlib.suppress(OSError):
            shutil.rmtree(self._private or self._ticket.runtime_dir)
            if self._private is not None:
                self._private.parent.rmdir()
        return not left

    def _remove_secrets(self) -> None:
        """Nobody may ever ask for a detached job. Last of all: another life of this master would need its ticket."""
        manager, ticket = self._manager, self._ticket
        if ticket.in_client or not ticket.detached or (manager.returns and not manager.noted):
            return
        if not self.job.returning.was_over and any(slot.phase == "absent" for slot in self.job.slots):
            return  # without its ticket a copy that is still to come would not even start, and so never end
        manager.remove_secrets()
