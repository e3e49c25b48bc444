"""One job as its submitting client lives it: start everything, follow it, take the results, see that nothing is left."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from twister2.client.prepare import Prepared
from twister2.client.records import JobRecord, read_state
from twister2.control.channel import Dialer
from twister2.control.messages import Message
from twister2.host import ObserverSet
from twister2.master.journal import Journal
from twister2.spec.environment import WorkerEvent
from twister2.spec.errors import (
    JobFailedError,
    JobKilledError,
    MasterLostError,
    ResourceError,
    Twister2Error,
    from_dict,
)
from twister2.spec.observe import JobFacts, Progress
from twister2.spec.rm import JobHandle, JobState

POLL_S = 0.2
CONNECT_S = 30.0


@attrs.frozen
class Outcome:
    """How a job ended.

    :ivar results: pickled results by worker id; only those that returned.
    """

    state: JobState
    error: Twister2Error | None
    seconds: float
    attempts: int
    results: dict[int, bytes]


Output = Callable[[int, str, str], None]
"""Called with worker id, stream (stdout, stderr, log) and text."""


class Session:
    """A submitted job and the connection to its master."""

    def __init__(self, prepared: Prepared, output: Output, observers: ObserverSet) -> None:
        self._prepared, self._output, self._observers = prepared, output, observers
        self.job_id = prepared.allocation.job_id
        self.handle: JobHandle | None = None
        self._master: subprocess.Popen[bytes] | None = None
        self._dialer: Dialer | None = None
        self._channel = contextlib.ExitStack()
        self._outcome: Outcome | None = None
        self._asked = 0.0
        self._journal: Journal | None = None
        self._shared = "state" in prepared.backend.offers.shared_files or prepared.match.master == "client"

    # -- starting ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the master (if it lives here), ask for the allocation, write the job record.

        Nothing stays behind when it raises.
        """
        prepared = self._prepared
        (prepared.folder / "logs").mkdir(mode=0o700, parents=True)
        self._observe_start()
        in_client = prepared.match.master == "client"
        try:
            if in_client:
                self._start_master()
            else:
                (prepared.folder / "package.tar").write_bytes(prepared.package)
            self.handle = prepared.backend.submit(prepared.allocation)
            for warning in self.handle.facts.get("warnings", ()):
                self._output(-1, "log", f"warning: {warning}\n")
            self._write_record(in_client)
            if in_client:
                self._tell_master()
        except BaseException:
            self._undo()
            raise

    def _observe_start(self) -> None:
        job = self._prepared.job
        facts = JobFacts(self.job_id, self._prepared.allocation.name, job.workers, job.rm, self._prepared.program.label)
        self._observers.call("observe_start", job=facts)
        self._observers.call("job_state", job_id=self.job_id, state=JobState.QUEUED.value, reason="")

    def _start_master(self) -> None:
        """The master as a child: a busy interpreter here cannot silence it, and the pipe tells it when we are gone."""
        log = (self._prepared.folder / "master.log").open("ab")
        environment = {**os.environ, "TWISTER2_MASTER_OF": self.job_id}
        command = [sys.executable, "-c", "import sys; from twister2.master.process import main; sys.exit(main())"]
        with log:
            self._master = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=environment
            )

    def _tell_master(self) -> None:
        """Ticket, package and handle; the open pipe is the lifeline of a master that is not detached."""
        assert self._master is not None and self._master.stdin is not None and self.handle is not None
        ticket = attrs.evolve(self._prepared.master_ticket, handle=attrs.asdict(self.handle)).encode()
        pipe = self._master.stdin
        try:
            for block in (ticket, self._prepared.package):
                pipe.write(len(block).to_bytes(8, "big") + block)
            pipe.flush()
        except BrokenPipeError:
            raise self._master_lost() from None

    def _write_record(self, in_client: bool) -> None:
        prepared, handle = self._prepared, self.handle
        assert handle is not None
        JobRecord(
            job_id=self.job_id,
            name=prepared.allocation.name,
            program=prepared.program.label,
            n_workers=prepared.job.workers,
            profile=prepared.resolved.profile or prepared.job.rm,
            handle=attrs.asdict(handle),
            addresses=prepared.master_ticket.listen if in_client and prepared.backend.offers.same_host else (),
            master_in_client=in_client,
            master_public=prepared.master_ticket.master_public,
            client_key=prepared.master_ticket.client_key,
            resolved=prepared.resolved.to_dict(),
            pins=prepared.pins.to_dict(),
        ).write(prepared.folder)

    def _undo(self) -> None:
        if self.handle is not None:
            with contextlib.suppress(Twister2Error):
                self._prepared.backend.kill(self.handle, 0.0)
                self._prepared.backend.clean(self.handle)
        if self._master is not None:
            self._master.kill()
            self._master.wait()
        shutil.rmtree(self._prepared.folder, ignore_errors=True)
        if self._prepared.master_ticket.runtime_dir:
            shutil.rmtree(self._prepared.master_ticket.runtime_dir, ignore_errors=True)

    def leave(self) -> None:
        """The job goes on without this client."""
        if self._master is not None:
            assert self._master.stdin is not None
            self._master.stdin.close()
        self._prepared.backend.close()

    # -- following -----------------------------------------------------------------------------------------------------

    def follow(self) -> Outcome:
        """Follow the job to its end. Ctrl-C once asks it to end, twice ends it now."""
        interrupts = 0
        while self._outcome is None:
            try:
                if interrupts == 1 and self._dialer is not None:
                    self._dialer.send("kill", {"reason": "Ctrl-C in the submitting client"})
                    interrupts = 2
                self._connect_and_follow()
            except KeyboardInterrupt:
                interrupts = 1 if interrupts == 0 else 3
                if interrupts == 3 or self._dialer is None:
                    self._kill_now("Ctrl-C in the submitting client")
        self._finish()
        return self._outcome

    def _connect_and_follow(self) -> None:
        if self._dialer is None:
            self._connect()
        assert self._dialer is not None
        while self._outcome is None:
            message = self._dialer.receive(POLL_S)
            if message is not None:
                self._take(message)
            elif self._master is not None and self._master.poll() is not None:
                self._after_master()
            elif self._master is None:
                self._check_allocation()

    def _connect(self) -> None:
        """Reach the master: at the address we chose, or through the resource manager once it has one."""
        prepared = self._prepared
        ticket = prepared.master_ticket
        if prepared.match.master == "client" and prepared.backend.offers.same_host:
            addresses: Sequence[str] = ticket.listen
        else:
            addresses = self._addresses()
        if not addresses or self._outcome is not None:
            return
        self._dialer = Dialer(addresses, ticket.master_public, deadline_s=CONNECT_S)
        self._dialer.send("attach", {"client_key": ticket.client_key})

    def _addresses(self) -> Sequence[str]:
        """Wait until the master listens somewhere this process can reach."""
        handle, backend = self.handle, self._prepared.backend
        assert handle is not None
        job = self._prepared.job
        begun, told = time.monotonic(), ""
        while True:
            try:
                return self._channel.enter_context(backend.open_channel(handle))
            except ResourceError:
                status = backend.state(handle)
            if status.state.final:
                self._fail_from(status.reason or status.state.value)
                return ()
            queued = status.state is JobState.QUEUED
            limit = job.queue_deadline_s if queued else job.start_deadline_s
            if limit and time.monotonic() - begun > limit:
                self._fail_from(f"{status.state.value}: {status.reason}; no master after {limit:g} s")
                return ()
            if status.reason != told:
                told = status.reason
                self._observers.call("job_state", job_id=self.job_id, state=status.state.value, reason=told)
            if not queued and self._master is not None and self._master.poll() is not None:
                self._after_master()
                return ()
            time.sleep(0.1)

    def _check_allocation(self) -> None:
        """The master is in the allocation and silent: ask the manager now and then whether it still lives."""
        now = time.monotonic()
        if now - self._asked < 2.0 or self.handle is None:
            return
        self._asked = now
        with contextlib.suppress(ResourceError):
            status = self._prepared.backend.state(self.handle)
            if status.state.final or status.state is JobState.UNKNOWN:
                facts = read_state(self._prepared.folder)
                if facts.get("state") in ("completed", "failed", "killed"):
                    message = self._dialer.receive(2.0) if self._dialer else None
                    if message is not None:
                        self._take(message)
                        return
                self._fail_from(f"the resource manager says: {status.reason or status.state.value}")

    def _take(self, message: Message) -> None:
        body, call = message.body, self._observers.call
        match message.kind:
            case "output":
                call("output", job_id=self.job_id, worker_id=body["worker"], stream=body["stream"], text=body["text"])
                self._output(body["worker"], body["stream"], body["text"])
                if not self._shared:
                    self._own_journal().output(body["worker"], body["text"])
            case "state":
                call("job_state", job_id=self.job_id, state=body["state"], reason=body["reason"])
                if not self._shared:
                    self._own_journal().state(**body)
            case "attempt":
                call("attempt_started", job_id=self.job_id, attempt=body["attempt"], n_workers=body["n_workers"])
            case "worker":
                call("worker_event", job_id=self.job_id, event=WorkerEvent(**body))
            case "progress":
                call("progress", job_id=self.job_id, progress=_progress(body))
            case "checkpoint":
                call("checkpoint_committed", job_id=self.job_id, number=body["number"])
            case "attached":
                call("job_state", job_id=self.job_id, state=body["state"], reason=body["reason"])
                if body["wants_package"]:
                    self._push_package()
            case "refused":
                raise ResourceError("the job master refused this client", why=body["text"], remedy="submit again")
            case "ended":
                self._outcome = Outcome(
                    JobState(body["state"]),
                    from_dict(body["error"]) if body["error"] else None,
                    body["seconds"],
                    body["attempts"],
                    dict(zip(body["workers"], message.blobs, strict=True)),
                )

    def _push_package(self) -> None:
        assert self._dialer is not None
        self._dialer.send("push", {}, (self._prepared.package,))

    def _own_journal(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._prepared.folder)
        return self._journal

    # -- trouble -------------------------------------------------------------------------------------------------------

    def _after_master(self) -> None:
        """Our child has ended: with a last message still in the socket, or without a word."""
        assert self._dialer is not None
        while self._outcome is None and (message := self._dialer.receive(0.1)) is not None:
            self._take(message)
        if self._outcome is None:
            self._end_without_master(JobState.FAILED, self._master_lost())

    def _master_lost(self) -> MasterLostError:
        code = self._master.wait() if self._master is not None else None
        try:
            tail = (self._prepared.folder / "master.log").read_text(errors="replace").strip()[-2000:]
        except OSError:
            tail = ""
        from twister2.worker.processes import describe_exit

        return MasterLostError(
            "the job master ended before the job did",
            why=f"it ended with {describe_exit(code or 0)}" + (f"; its last words:\n{tail}" if tail else ""),
            remedy="submit the job again; please report it if nobody killed it",
        )

    def _fail_from(self, reason: str) -> None:
        error = JobFailedError(
            "the job ended without its job master saying so",
            why=reason,
            remedy=f"see 'twister2 logs {self.job_id}' for what was written at the start",
        )
        self._end_without_master(JobState.FAILED, error)

    def _kill_now(self, reason: str) -> None:
        error = JobKilledError("the job was killed", why=reason, remedy="submit it again when it is wanted")
        self._end_without_master(JobState.KILLED, error)

    def _end_without_master(self, state: JobState, error: Twister2Error) -> None:
        """End everything ourselves, with nobody's help."""
        backend, handle = self._prepared.backend, self.handle
        if self._master is not None:
            self._master.kill()
            self._master.wait()
        if handle is not None:
            backend.kill(handle, 0.5)
            backend.clean(handle)
        if self._prepared.master_ticket.runtime_dir:
            shutil.rmtree(self._prepared.master_ticket.runtime_dir, ignore_errors=True)
        journal = self._own_journal()
        journal.state(state=state.value, reason=error.what, ended=time.time(), error=error.to_dict())
        journal.event("job_ended", state=state.value, by="client", error=error.to_dict())
        self._outcome = Outcome(state, error, time.time() - os.path.getmtime(self._prepared.folder), 1, {})

    def _finish(self) -> None:
        outcome = self._outcome
        assert outcome is not None
        if self._dialer is not None:
            self._dialer.close()
        if self._master is not None:
            assert self._master.stdin is not None
            with contextlib.suppress(OSError):
                self._master.stdin.close()
            try:
                self._master.wait(10.0)
            except subprocess.TimeoutExpired:
                self._master.kill()
                self._master.wait()
        elif self.handle is not None:
            with contextlib.suppress(Twister2Error):
                self._prepared.backend.kill(self.handle, self._prepared.job.kill_grace_s)
                self._prepared.backend.clean(self.handle)
        self._channel.close()
        if self._journal is not None:
            self._journal.close()
        self._prepared.backend.close()
        pathlib.Path(self._prepared.folder / "package.tar").unlink(missing_ok=True)
        reason = outcome.error.what if outcome.error else ""
        self._observers.call(
            "job_ended", job_id=self.job_id, state=outcome.state.value, reason=reason, seconds=outcome.seconds
        )


def _progress(body: dict[str, Any] | Any) -> Progress:
    return Progress(
        worker_id=body["worker"],
        attempt=body.get("attempt", 0),
        step=body.get("step", ""),
        done=body.get("done", 0.0),
        total=body.get("total"),
        unit=body.get("unit", ""),
        counters=body.get("counters", {}),
        memory=body.get("memory", 0),
    )
