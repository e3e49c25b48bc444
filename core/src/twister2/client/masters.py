"""Where a job's master lives, as the submitting client sees it: a child process, a thread, or the allocation."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import time
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from twister2.client.child import MasterChild, start_child
from twister2.client.records import read_state
from twister2.client.silent import ended_silently, last_words
from twister2.control.channel import Dialer
from twister2.control.looking import GONE_S, pause_s
from twister2.control.package import MANIFEST, Manifest, unpack
from twister2.control.releasing import release
from twister2.master.journal import end_of
from twister2.spec.errors import DeadlineError, MasterLostError, ResourceError, Twister2Error
from twister2.spec.rm import Allocation, JobHandle, JobState, JobStatus
from twister2.worker.processes import start_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.client.prepare import Prepared
    from twister2.client.returning import ReturningConnection
    from twister2.control.messages import Message

CONNECT_S = 30.0
STOP_S = 10.0
SHORTEST_PAUSE_S = 0.1
"""Between two looks at a job whose master is not there yet."""


class Connection(Protocol):
    """A conversation with the master."""

    def send(self, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None: ...

    def receive(self, timeout_s: float) -> Message | None: ...

    def close(self, linger_s: float = 0.0) -> None:
        """
        :param linger_s: how long what was sent may take to go out.
        """


class Master(ABC):
    """The master of one job. ``start``, then the allocation is submitted, then ``tell``, ``dial``, and at last
    ``stop``.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared

    @abstractmethod
    def start(self) -> Allocation:
        """Start it if it lives here; returns the allocation to submit."""

    @abstractmethod
    def tell(self, handle: JobHandle) -> None:
        """The manager has accepted the job."""

    @abstractmethod
    def dial(self, queued: Callable[[JobState, str], None]) -> Connection:
        """Connect to it, waiting until it can be reached.

        :param queued: told about the allocation's state while it waits.
        :raises JobFailedError: the job ended before its master could be reached.
        """

    @abstractmethod
    def lost(self) -> Twister2Error | None:
        """The error to report when it has ended and nothing more will come, else None. Called when it is silent."""

    @property
    def process(self) -> tuple[str, int, int] | None:
        """Host, process id and start time of a process of its own on this host."""
        return None

    def leave(self) -> None:
        """The job goes on without this client."""

    @abstractmethod
    def stop(self, *, now: bool, why: str = "") -> None:
        """End it: wait for its orderly end, or (``now``) kill it. Idempotent.

        :param why: the reason, for one that writes down itself that the job was killed.
        """


class ChildMaster(Master):
    """A child process: a busy interpreter here cannot silence it, and the pipe tells it when we are gone."""

    _process: MasterChild | None = None

    def start(self) -> Allocation:
        prepared = self._prepared
        self._process = start_child(prepared.allocation.job_id, prepared.folder / "master.log")
        self._send(prepared.master_ticket.encode())  # before there is anything else to be ended, should we go now
        return prepared.allocation

    def tell(self, handle: JobHandle) -> None:
        """Package and handle; the open pipe is the lifeline of a master that is not detached."""
        self._send(self._prepared.package, json.dumps(attrs.asdict(handle)).encode())
        if self._prepared.detached and self._process is not None:
            self._process.hang_up()

    def _send(self, *blocks: bytes) -> None:
        assert self._process is not None
        try:
            self._process.send(blocks)
        except BrokenPipeError:
            raise self._error() from None

    @property
    def process(self) -> tuple[str, int, int] | None:
        assert self._process is not None
        return os.uname().nodename, self._process.pid, start_ticks(self._process.pid)

    def dial(self, queued: Callable[[JobState, str], None]) -> Connection:
        prepared = self._prepared
        addresses = prepared.master_ticket.listen
        if not prepared.backend.offers.same_host:
            addresses = self._published()
        return _attached(Dialer(addresses, prepared.master_ticket.master_public, deadline_s=CONNECT_S), prepared)

    def _published(self) -> tuple[str, ...]:
        """Addresses of a master that took a free port: it writes them into its folder."""
        path = self._prepared.folder / "addresses"
        end = time.monotonic() + CONNECT_S
        while time.monotonic() < end:
            if path.exists():
                addresses = path.read_text().split()
                # not by an address that may go, of a tunnel or a bridge: it is a process of this host
                return tuple(text for text in addresses if text.startswith("tcp://127.")) or tuple(addresses)
            if self.lost() is not None:
                break
            time.sleep(0.01)
        raise self._error()

    def lost(self) -> Twister2Error | None:
        assert self._process is not None
        return None if self._process.poll() is None else self._error()

    def _error(self) -> MasterLostError:
        from twister2.worker.processes import describe_exit

        assert self._process is not None
        code = self._process.wait(STOP_S)
        how = "it does not answer" if code is None else f"it ended with {describe_exit(code)}"
        try:
            tail = (self._prepared.folder / "master.log").read_text(errors="replace").strip()[-2000:]
        except OSError:
            tail = ""
        return MasterLostError(
            "the job master ended before the job did",
            why=how + (f"; its last words:\n{tail}" if tail else ""),
            remedy="submit the job again; please report it if nobody killed it",
        )

    def stop(self, *, now: bool, why: str = "") -> None:
        process = self._process
        if process is None:
            return
        if now:  # before it hears that we are gone, and begins to end the job itself
            process.kill()
        process.hang_up()
        if process.wait(STOP_S) is None:
            process.kill()
            process.wait(STOP_S)


class AllocationMaster(Master):
    """A process in the allocation, reached through the resource manager."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(prepared)
        self._handle: JobHandle | None = None
        self._channel = contextlib.ExitStack()
        self._asked = self._queued = self._gone = 0.0
        """When the manager was asked, and when it said that the whole job waits again, to be begun anew."""
        self._tell: Callable[[JobState, str], None] = lambda state, reason: None
        self._connection: ReturningConnection | None = None

    def start(self) -> Allocation:
        if self._prepared.master_ticket.has_package:
            (self._prepared.folder / "package").write_bytes(self._prepared.package)
        return self._prepared.allocation

    def tell(self, handle: JobHandle) -> None:
        self._handle = handle

    def dial(self, queued: Callable[[JobState, str], None]) -> Connection:
        prepared, handle = self._prepared, self._handle
        assert handle is not None
        job, backend = prepared.job, prepared.backend
        self._tell = queued
        begun, known, shown = time.monotonic(), JobStatus(JobState.QUEUED), ""
        gone = 0.0
        while True:
            with contextlib.suppress(ResourceError, MasterLostError):
                return self._connected()
            status, now = self._look(known), time.monotonic()
            written = end_of(read_state(prepared.folder))
            gone = (gone or now) if written or status.state is JobState.UNKNOWN else 0.0
            if status.state.final or (gone and now - gone > GONE_S):
                raise (written and written[1]) or ended_silently(status, last_words(backend, handle))
            before, known = known, known if status.state is JobState.UNKNOWN else status
            waits = known.state is JobState.QUEUED
            if waits != (before.state is JobState.QUEUED):
                begun = now
            limit = job.queue_deadline_s if waits else job.start_deadline_s
            if limit and now - begun > limit:
                raise self._not_reached(status, limit, now - begun, waits=waits)
            if f"{status.state.value} {status.reason}" != shown:
                shown = f"{status.state.value} {status.reason}"
                # what runs as far as its manager knows has only begun: it is the master that says when all do
                begins = status.state is JobState.RUNNING
                queued(JobState.STARTING if begins else status.state, status.reason)
            time.sleep(pause_s(0.0 if gone else now - begun, SHORTEST_PAUSE_S))

    def _not_reached(self, status: JobStatus, limit_s: float, waited_s: float, *, waits: bool) -> DeadlineError:
        """The error for a master that has not come in time."""
        assert self._handle is not None
        if waits:
            from twister2.master.causes import queued_too_long

            return queued_too_long(
                limit_s, waited_s, f"the resource manager says: {status.reason}" if status.reason else ""
            )
        said = last_words(self._prepared.backend, self._handle)
        return DeadlineError(
            f"the job master could not be reached within {limit_s:g} s",
            why=f"the job is {status.state.value}{': ' + status.reason if status.reason else ''}"
            + (f"; the last that was written there:\n{said}" if said else ""),
            remedy="see 'twister2 logs JOB --manager'; raise job.start_deadline_s for a busy cluster",
        )

    def _look(self, known: JobStatus) -> JobStatus:
        """What the manager says now. One that does not answer for a while has not ended the job."""
        assert self._handle is not None
        try:
            return self._prepared.backend.state(self._handle)
        except ResourceError as error:
            return JobStatus(known.state, f"the resource manager cannot be asked: {error.what} ({error.why})")

    def _addresses(self) -> Sequence[str]:
        assert self._handle is not None
        self._channel.close()
        return self._channel.enter_context(self._prepared.backend.open_channel(self._handle))

    def _connected(self) -> Connection:
        from twister2.client.returning import ReturningConnection

        ticket = self._prepared.master_ticket
        dialer = Dialer(self._addresses(), ticket.master_public, deadline_s=CONNECT_S)
        self._connection = ReturningConnection(dialer, self._addresses, ticket.master_public, ticket.client_key)
        return self._connection

    def lost(self) -> Twister2Error | None:
        """The master is silent: ask the manager now and then whether it still lives."""
        backend, now = self._prepared.backend, time.monotonic()
        if now - self._asked < 2.0 or self._handle is None:
            return None
        self._asked = now
        gone, self._gone = self._gone, 0.0
        with contextlib.suppress(ResourceError):
            status = backend.state(self._handle)
            if status.state is JobState.QUEUED:
                self._queued = now
                self._tell(status.state, status.reason)
            self._gone = (gone or now) if status.state is JobState.UNKNOWN else 0.0
            if status.state.final or (self._gone and now - self._gone > GONE_S):
                return ended_silently(status, last_words(backend, self._handle))
        limit_s = self._prepared.job.start_deadline_s + self._prepared.job.master_return_s
        absent_s = 0.0 if self._connection is None else min(self._connection.absent_s, now - self._queued)
        if backend.offers.restarts_master and absent_s > limit_s:
            return MasterLostError(
                "the job master was lost",
                why=f"it has not been heard of for {limit_s:g} s, nor found again",
                remedy="see 'twister2 logs JOB --manager'; raise job.start_deadline_s where its start takes long",
            )
        return None

    def leave(self) -> None:
        self._channel.close()

    def stop(self, *, now: bool, why: str = "") -> None:
        prepared, handle = self._prepared, self._handle
        if handle is not None:
            release(prepared.backend, handle, 0.0 if now else prepared.job.kill_grace_s)
        self._channel.close()
        (prepared.folder / "package").unlink(missing_ok=True)


def _attached(dialer: Dialer, prepared: Prepared) -> Dialer:
    dialer.send("attach", {"client_key": prepared.master_ticket.client_key, "follow": True})
    return dialer


class ThreadMaster(Master):
    """A thread of this process, for workers that are threads."""

    _mark: int | None = None
    _connection: _LocalConnection | None = None

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(prepared)
        from twister2.client.lines import ThreadLines
        from twister2.master.facts import JobFacts
        from twister2.master.local import LocalMaster
        from twister2.master.observing import MasterObservers
        from twister2.master.store import JobStore

        ticket, resolved = prepared.master_ticket, prepared.resolved
        self._lines = ThreadLines()
        state_root = str(prepared.folder.parent.parent)
        self._store = JobStore(prepared.host, resolved, state_root)
        facts = JobFacts.of(ticket, resolved.job, state_root)
        # without the package: nothing of the program, which may end this process, runs before the job is recorded
        self._master = LocalMaster(facts, ticket.join_key, b"", prepared.folder, self._store)
        self._observers = MasterObservers(
            prepared.host, resolved, self._master.job, self._master.journal, ticket.program
        )

    def start(self) -> Allocation:
        from twister2.client.runtime import own
        from twister2.client.threads import run_worker
        from twister2.worker.program import load

        prepared, ticket = self._prepared, self._prepared.master_ticket
        self._mark = own(ticket.job_id)
        manifest = Manifest.decode(_manifest_of(prepared))
        function = prepared.program.function or load(manifest, prepared.folder / "program", in_process=True)
        self._connection = _LocalConnection(self._master)
        self._connection.send("attach", {"client_key": ticket.client_key, "follow": True})
        self._master.start()
        self._lines.begin()
        run = partial(
            run_worker,
            master=self._master,
            join_key=ticket.join_key,
            function=function,
            manifest=manifest,
            job_id=ticket.job_id,
        )
        return attrs.evolve(prepared.allocation, in_process=run)

    def tell(self, handle: JobHandle) -> None:
        """The threads know their master already; it gets the package when the client follows the job."""

    def dial(self, queued: Callable[[JobState, str], None]) -> Connection:
        """It is attached since the start: workers write as soon as they are submitted."""
        assert self._connection is not None
        return self._connection

    def lost(self) -> Twister2Error | None:
        if self._master.alive():
            return None
        return MasterLostError(
            "the job master's thread ended", why="it raised", remedy="please report it, with the traceback above"
        )

    def stop(self, *, now: bool, why: str = "") -> None:
        from twister2.worker.program import unload

        if now and self._master.alive():
            self._master.kill(why or "the submitting client gave up")
        # what the workers use stays until they have ended, or have had their grace
        self._master.join(STOP_S + (self._prepared.job.kill_grace_s if now else 0.0))
        program = self._prepared.folder / "program"
        with contextlib.ExitStack() as steps:  # each is done, whatever comes of those before it; the last one first
            steps.callback(self._let_go)
            steps.callback(self._store.close)
            steps.callback(partial(shutil.rmtree, program, ignore_errors=True))
            steps.callback(unload, program)
            steps.callback(self._observers.close)
            steps.callback(self._lines.end)

    def _let_go(self) -> None:
        if self._mark is not None:
            os.close(self._mark)
            self._mark = None


class _LocalConnection:
    """A conversation by queue."""

    def __init__(self, master: Any) -> None:
        self._master = master
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        master.register(b"client", self._inbox.put)

    def send(self, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        self._master.send(b"client", kind, body, blobs)

    def receive(self, timeout_s: float) -> Message | None:
        try:
            return self._inbox.get(timeout=timeout_s) if timeout_s > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return None

    def close(self, linger_s: float = 0.0) -> None:
        """Nothing to release."""


def _manifest_of(prepared: Prepared) -> bytes:
    """Unpack the package beside the job's record and give its manifest."""
    folder = prepared.folder / "program"
    unpack(prepared.package, folder)
    return (folder / MANIFEST).read_bytes()


def master_for(prepared: Prepared) -> Master:
    """The master where this job's lives."""
    if prepared.backend.offers.in_process:
        return ThreadMaster(prepared)
    return ChildMaster(prepared) if prepared.match.master == "client" else AllocationMaster(prepared)
