"""One job as its submitting client lives it: start everything, follow it, take the results, see that nothing is
left.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import attrs

from twister2.client.interrupts import Interrupts, TerminatedError
from twister2.client.leftovers import remove_rest
from twister2.client.masters import Connection, Master, master_for
from twister2.client.records import JobRecord, begin
from twister2.client.runtime import sweep
from twister2.control.folders import make_private, runtime_folder
from twister2.control.messages import weight_of
from twister2.control.observing import observe
from twister2.control.releasing import release
from twister2.master.journal import Journal
from twister2.spec.errors import DeadlineError, JobKilledError, ResourceError, ResultError, Twister2Error, from_dict
from twister2.spec.observe import JobFacts
from twister2.spec.rm import JobHandle, JobState
from twister2.spec.values import Value
from twister2.worker.segments import Segments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.client.prepare import Prepared
    from twister2.control.messages import Message
    from twister2.host import ObserverSet

POLL_S = 0.2
STEP_ASIDE_S = 0.2
"""How long an observer may take to make room for output."""
TELL_EVERY = 1 << 18
PUSH_S, PUSH_RATE = 60.0, 1e6
"""How long a master may take to take the package: so many seconds, and the package's size by so many bytes a second."""
DETACH_S = 0.5
"""How long the last word to a master that goes on may take to go out."""
INTERRUPTED = "interrupted"
"""Among the details of a JobKilledError: the signal to this client by which the job was killed, not from elsewhere."""
CTRL_C = "Ctrl-C in the submitting client"


@attrs.frozen(eq=False, repr=False)
class Outcome(Value):
    """How a job ended.

    :ivar seconds: wall-clock time since its first worker joined: what it waited in a queue does not count.
    :ivar attempts: how often it was started.
    :ivar results: pickled results by worker id; only those that returned. :ivar incomplete: what of the logs could
        not be written, and why.
    """

    state: JobState
    error: Twister2Error | None
    seconds: float
    attempts: int
    results: dict[int, bytes]
    incomplete: str = ""


Output = Callable[[int, str, str], None]
"""Called with worker id (-1: the client), stream (stdout, stderr, log) and text."""


class Session:
    """A submitted job and the connection to its master.

    :param signals: what ends this client, and the job with it, beside Ctrl-C.
    """

    def __init__(self, prepared: Prepared, output: Output, observers: ObserverSet, signals: Sequence[int] = ()) -> None:
        self._prepared, self._output, self._observers = prepared, output, observers
        self.job_id = prepared.allocation.job_id
        self._handle: JobHandle | None = None
        self._master: Master | None = None
        self._connection: Connection | None = None
        self._outcome: Outcome | None = None
        self._killed: JobKilledError | None = None
        """The kill that this client has asked for: what fails from then on fails because of it."""
        self._journal: Journal | None = None
        self._pushed = False
        self._untold = 0
        self._interrupts = Interrupts(signals)
        self._begun = time.monotonic()
        self._segments = Segments(prepared.master_ticket.segments)
        same_files = prepared.match.master == "client" or "state" in prepared.backend.offers.shared_files
        self._keeps_journal = not same_files and not prepared.detached  # else the master has it, or the manager

    # -- starting ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the master (if it lives here), ask for the allocation, write the job record.

        Nothing stays behind when it raises. From here until the job has ended, or was left, Ctrl-C is heard where it
        cannot cut such a step in two.
        """
        self._interrupts.begin()
        try:
            self._make_folders()
            try:
                self._start()
            except BaseException:
                self._undo()
                raise
            self._tell_observers()
        except BaseException:
            self._interrupts.end()
            raise

    def _start(self) -> None:
        prepared, hear = self._prepared, self._interrupts.heard
        begin(prepared.folder)
        self._master = master_for(prepared)
        with hear() if prepared.backend.offers.in_process else nullcontext():  # imports the program, which may hang
            allocation = self._master.start()
        with hear():
            pass
        self._handle = prepared.backend.submit(allocation)
        with hear():
            for warning in self._handle.facts.get("warnings", ()):
                self._output(-1, "log", f"warning: {warning}\n")
            self._write_record(self._handle)
            self._master.tell(self._handle)

    def _tell_observers(self) -> None:
        prepared = self._prepared
        # Only now: observers have threads, and a client with threads cannot fork its master.
        job = prepared.job
        facts = JobFacts(self.job_id, prepared.allocation.name, job.workers, job.rm, prepared.program.label)
        self._observers.start(facts)
        self._observers.job_state(self.job_id, JobState.QUEUED.value, "")

    def _make_folders(self) -> None:
        sweep()
        make_private(self._prepared.folder, parents=True)
        make_private(self._prepared.folder / "logs")
        if self._prepared.master_ticket.runtime_dir:
            try:
                runtime_folder(self.job_id)
            except BaseException:
                self._undo()
                raise

    def _write_record(self, handle: JobHandle) -> None:
        prepared = self._prepared
        in_client = prepared.match.master == "client"
        same_host = prepared.backend.offers.same_host
        JobRecord(
            job_id=self.job_id,
            name=prepared.allocation.name,
            program=prepared.program.label,
            n_workers=prepared.job.workers,
            profile=prepared.resolved.profile or prepared.job.rm,
            handle=attrs.asdict(handle),
            addresses=prepared.master_ticket.listen if in_client and same_host else (),
            master_in_client=in_client,
            master_public=prepared.master_ticket.master_public,
            client_key=prepared.master_ticket.client_key,
            resolved=prepared.resolved.to_dict(),
            pins=prepared.pins.to_dict(),
            master_process=None if self._master is None else self._master.process,
        ).write(prepared.folder, durable=not same_host)  # what runs elsewhere outlives a power cut of this host

    def _undo(self) -> None:
        """Each step whatever comes of the others: what counts is why it is undone."""
        steps: list[Callable[[], object]] = [
            partial(self._release_allocation, 0.0),
            partial(shutil.rmtree, self._prepared.folder, ignore_errors=True),
            self._remove_runtime,
            self._prepared.backend.close,
        ]
        if self._master is not None:  # workers that are threads end by their master's word only
            steps.insert(0 if self._prepared.backend.offers.in_process else 1, partial(self._master.stop, now=True))
        for step in steps:
            with contextlib.suppress(Exception):
                step()

    def leave(self) -> None:
        """The job goes on without this client, once its master has all it needs."""
        assert self._master is not None
        try:
            try:
                with self._interrupts.heard():
                    if not self._prepared.master_ticket.has_package:
                        self._hand_over(self._master)
            except BaseException:
                self._undo()
                raise
            self._master.leave()
            self._observers.close()
            self._prepared.backend.close()
        finally:
            self._interrupts.end()

    def _hand_over(self, master: Master) -> None:
        """Push the package to a master that shares no files with this client."""
        self._connection = master.dial(self._while_queued)
        limit_s = PUSH_S + len(self._prepared.package) / PUSH_RATE
        deadline = time.monotonic() + limit_s
        while not self._pushed and self._outcome is None:
            message = self._connection.receive(POLL_S)
            if message is not None:
                self._take(message)
            elif (error := master.lost()) is not None:
                raise error
            elif time.monotonic() > deadline:
                raise DeadlineError(
                    f"the job master did not take the package within {limit_s:.0f} s",
                    why="it was reached, and says nothing any more",
                    remedy="submit the job again; see the resource manager's log of the job master if it stays so",
                )
        self._connection.send("detach", {})
        self._connection.close(linger_s=DETACH_S)
        if self._prepared.backend.offers.restarts_master and not self._prepared.master_ticket.packed:
            self._output(-1, "log", _kept_by_workers(self._prepared))

    # -- following -----------------------------------------------------------------------------------------------------

    def follow(self) -> Outcome:
        """Follow the job to its end. Ctrl-C once asks it to end, twice ends it now; a third one changes nothing: this
        returns when nothing of the job is left.
        """
        try:
            return self._followed()
        finally:
            self._interrupts.end()

    def _followed(self) -> Outcome:
        interrupts, by, why = 0, signal.SIGINT, CTRL_C
        while self._outcome is None:
            try:
                if interrupts == 1 and self._connection is not None:
                    interrupts = 2
                    self._connection.send("kill", {"reason": why})
                with self._interrupts.heard():
                    self._follow()
            except KeyboardInterrupt as interrupt:
                if not interrupts and isinstance(interrupt, TerminatedError):
                    by, why = interrupt.number, str(interrupt)
                interrupts += 1
                self._killed = JobKilledError("the job was killed", why=why, remedy="submit it again when wanted")
                if interrupts > 2 or self._connection is None:
                    self._end_without_master(self._killed)
            except Twister2Error as error:
                self._end_without_master(error)
            except BaseException as error:  # whoever takes the output may raise anything; a notebook lives on
                why = f"the submitting client failed: {type(error).__name__}: {error}"
                killed = JobKilledError("the job was killed", why=why, remedy="mend that, then submit it again")
                outcome = self._end_without_master(killed)
                with contextlib.suppress(Exception):  # what failed first is the one to tell
                    self._finish(outcome)
                raise
        if interrupts and isinstance(self._outcome.error, JobKilledError):
            self._outcome.error.details[INTERRUPTED] = int(by)
        self._finish(self._outcome)
        return self._outcome

    def _follow(self) -> None:
        assert self._master is not None
        if self._connection is None:
            self._connection = self._master.dial(self._while_queued)
        while self._outcome is None:
            message = self._connection.receive(POLL_S)
            if message is not None:
                self._take(message)
            elif (error := self._master.lost()) is not None:
                self._last_words(error)

    def _while_queued(self, state: JobState, reason: str) -> None:
        self._observers.call("job_state", job_id=self.job_id, state=state.value, reason=reason)

    def _take(self, message: Message) -> None:
        body = message.body
        observe(self._observers, self.job_id, message.kind, body, output_wait_s=STEP_ASIDE_S)
        self._took(weight_of(message.kind, body))
        match message.kind:
            case "output":
                self._take_output(body["worker"], body["stream"], body["text"])
            case "state" if self._keeps_journal:
                self._own_journal().state(**body)
            case "attached":
                self._pushed = not body["wants_package"]  # "pushed" may be lost with a connection
                if body["wants_package"] and self._connection is not None:
                    self._connection.send("push", {}, (self._prepared.package,))
                if (
                    self._killed is not None and self._connection is not None
                ):  # said to a connection that broke, perhaps
                    self._connection.send("kill", {"reason": self._killed.why})
            case "pushed":
                self._pushed = True
            case "event" if self._keeps_journal:
                self._own_journal().append(dict(body))
            case "refused":
                raise ResourceError("the job master refused this client", why=body["text"], remedy="submit again")
            case "ended":
                state, error = JobState(body["state"]), from_dict(body["error"]) if body["error"] else None
                if not body["workers"]:  # a later life of the master knows how it ended, and has no results
                    known = self._outcome_of(state, error)
                    state, error = known.state, known.error
                self._outcome = Outcome(
                    state,
                    error,
                    body["seconds"],
                    body["attempts"],
                    dict(zip(body["workers"], message.blobs, strict=True)),
                    body["incomplete"] or (self._journal.incomplete if self._journal is not None else ""),
                )

    def _take_output(self, worker: int, stream: str, text: str) -> None:
        """What a worker wrote; without a stream it is for its log alone."""
        if stream:
            self._output(worker, stream, text)
        if self._keeps_journal:
            self._own_journal().output(worker, text)

    def _took(self, size: int) -> None:
        """Tell the master, now and then, how much output was taken in: it sends no more than a window ahead."""
        self._untold += size
        if self._untold >= TELL_EVERY and self._connection is not None:
            self._connection.send("took", {"size": self._untold})
            self._untold = 0

    def _own_journal(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._prepared.folder, limit_mb=self._prepared.job.log_limit_mb)
            self._journal.troubled = lambda text: self._output(-1, "log", f"warning: {text}\n")
        return self._journal

    # -- the end -------------------------------------------------------------------------------------------------------

    def _last_words(self, error: Twister2Error) -> None:
        """The master has gone: with a last message still on its way, or without a word."""
        assert self._connection is not None
        while self._outcome is None and (message := self._connection.receive(0.2)) is not None:
            self._take(message)
        if self._outcome is None:
            self._end_without_master(error)

    def _end_without_master(self, error: Twister2Error) -> Outcome:
        """End everything ourselves, with nobody's help.

        How the job ended is written down before anything is ended by force, so that nobody takes the consequence for
        the reason; what was written down before, by its master or another shell, is what counts.
        """
        error = self._killed or error
        journal = self._own_journal()
        state = JobState.KILLED if isinstance(error, JobKilledError) else JobState.FAILED
        state, told = journal.end(state, error)
        if self._master is not None:
            self._master.stop(now=True, why=error.why)
        journal.amend(tidied=self._tidy())
        journal.say_ended("client", state, told)
        self._outcome = self._outcome_of(state, told)
        return self._outcome

    def _outcome_of(self, state: JobState, error: Twister2Error | None) -> Outcome:
        """The outcome of a job whose master has not said the last word to this client."""
        if state is JobState.COMPLETED and self._prepared.manifest.want_results:
            error = ResultError(
                "the job completed, but its results did not arrive",
                why="this client did not take them in before its job master ended",
                remedy="do not stop the client for long; write large results to files",
            )
            state = JobState.FAILED
        return Outcome(state, error, time.monotonic() - self._begun, 1, {})

    def _tidy(self) -> bool:
        """End and remove what the master, which has gone, left; whether nothing of it is there any more."""
        left = self._release_allocation(0.5)
        prepared = self._prepared
        remove_rest(prepared.host, prepared.resolved, str(prepared.folder.parent.parent), self.job_id)
        return not left

    def _release_allocation(self, grace_s: float) -> list[str]:
        """End and remove what the manager has of the job; what is left, in words."""
        left = [] if self._handle is None else release(self._prepared.backend, self._handle, grace_s)
        if self._prepared.backend.offers.same_host:
            self._segments.sweep()  # supervisors that were killed could not
        return left

    def _remove_runtime(self) -> None:
        if self._prepared.master_ticket.runtime_dir:
            shutil.rmtree(self._prepared.master_ticket.runtime_dir, ignore_errors=True)

    def _finish(self, outcome: Outcome) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._master is not None:
            self._master.stop(now=False)
        if self._prepared.backend.offers.in_process:
            self._release_allocation(0.5)
        self._remove_runtime()
        if self._journal is not None:
            self._journal.close()
        self._prepared.backend.close()
        reason = outcome.error.what if outcome.error else ""
        self._observers.job_ended(self.job_id, outcome.state.value, reason, outcome.seconds)
        self._observers.close()


def _kept_by_workers(prepared: Prepared) -> str:
    job = prepared.job
    return (
        f"warning: the package ({len(prepared.package):,} bytes) is more than {job.rm} keeps for a job: should the job "
        "master's host die, the next one has it from a worker that has waited for it; raise job.master_return_s "
        f"({job.master_return_s:g} s) above the time until that is noticed, or ship less (job.wheels, job.files)\n"
    )
