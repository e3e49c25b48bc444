"""The supervisor: a small process per slot that keeps one worker's user process under watch.

It dials out to the job master, proves itself with the join key, fetches and checks the package, has the user process
forked, beats, carries output, aborts and exchanges both ways, sees how the user process ends, ends what it left behind,
and starts the next attempt in place. Its liveness never depends on the user's interpreter.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

import zmq

from twister2.control.package import digest, unpack
from twister2.control.ticket import Ticket, curve_pair, wait_for_ticket
from twister2.spec.errors import MasterLostError, PackageError, ResourceError, Twister2Error
from twister2.worker.facts import worker_facts
from twister2.worker.forkserver import ForkServer
from twister2.worker.joining import has_returned, say_hello
from twister2.worker.oom import MemoryGroup
from twister2.worker.processes import adopt_orphans, end_leftovers, reap, resident_bytes
from twister2.worker.segments import Segments
from twister2.worker.slotfolder import SlotFolder
from twister2.worker.userprocess import UserProcess

if TYPE_CHECKING:
    from pathlib import Path

    from twister2.control.channel import Dialer
    from twister2.control.messages import Message
    from twister2.worker.pmi import PmiService

LINGER_S = 2.0
"""How long the last words may take to go out; no longer than that when nobody takes them in."""
FORWARDED_TO_USER = frozenset({"exchanged", "event", "reply"})


class ForkServerLost(Exception):
    """The fork server has gone."""


class MasterReturned(Exception):
    """There is a ticket of a later life of the master."""


class Supervisor:
    """One slot's supervisor. ``run`` is its whole life after joining."""

    def __init__(self, slot: int, ticket_path: str, fork_server: ForkServer) -> None:
        self.slot, self._ticket_path, self._fork_server = slot, ticket_path, fork_server
        self._dialer: Dialer | None = None
        self._user: UserProcess | None = None
        self._welcome: dict[str, Any] = {}
        self._curve = ("", "")
        self._pmi: PmiService | None = None
        self._segments: Segments | None = None
        self._memory = MemoryGroup()
        self._stop = self._ending = False
        self._early: list[Message] = []
        """What the master said while the package was fetched: the start, if this was the last worker to join."""
        self._heard = time.monotonic()
        self._folder: SlotFolder | None = None
        """Made when it is let in."""
        self._package: tuple[str, Path | None] = "", None
        """Name of the package that was unpacked, and where."""

    @property
    def _place(self) -> Path:
        """Its folder on this host, and beside it those of the job's other copies here."""
        assert self._folder is not None
        return self._folder.path

    # -- joining -------------------------------------------------------------------------------------------------------

    def join(self, older_than: int = 0) -> bool:
        """Join the attempt of the ticket, waiting for later ones when told so. False: this copy is not needed.

        :param older_than: only a later attempt.
        """
        deadline_s = float(os.environ.get("TWISTER2_START_DEADLINE_S", "120"))
        while True:
            ticket = wait_for_ticket(self._ticket_path, older_than=older_than, deadline_s=deadline_s)
            answer = self._hello(ticket, deadline_s)
            if answer is None:  # another life of the master has published another one meanwhile
                continue
            if answer.kind == "welcome":
                self._welcome = dict(answer.body)
                if self._folder is None:
                    self._folder = SlotFolder.of_job(self._welcome["job_id"], self.slot)
                if not self._welcome["standby"]:
                    self._begin_attempt(answer.blobs)
                return True
            print(f"twister2 worker, slot {self.slot}: {answer.body['text']}", file=sys.stderr, flush=True)
            if not answer.body["wait"]:
                return False
            older_than = ticket.attempt
            assert self._dialer is not None
            self._dialer.close()
            self._dialer = None

    def _hello(self, ticket: Ticket, deadline_s: float) -> Message | None:
        """The master's answer, or None when a later life of it has published another ticket meanwhile."""
        self._curve = curve_pair()
        body = {
            "slot": self.slot,
            "attempt": ticket.attempt,
            "join_key": ticket.join_key,
            "pid": os.getpid(),
            "key": self._curve[0],
            "package": self._package[0],
            **worker_facts(),
        }
        answered = say_hello(self._ticket_path, ticket, body, self._package[1], deadline_s)
        if answered is None:
            return None
        self._dialer, answer = answered
        self._heard = time.monotonic()
        return answer

    def _join_again(self) -> bool:
        assert self._dialer is not None
        older_than = int(self._welcome["attempt"])
        print(f"twister2 worker, slot {self.slot}: joins the job master that was started again", file=sys.stderr)
        self._drop_user()
        self._dialer.close()
        self._dialer, self._welcome = None, {}
        self._early.clear()
        return self.join(older_than)

    # -- attempts ------------------------------------------------------------------------------------------------------

    def _begin_attempt(self, blobs: tuple[bytes, ...]) -> None:
        """Fetch and unpack the package and have the user process forked."""
        welcome = self._welcome
        if self._segments is None:
            self._segments = Segments(welcome["segments"])
        package = self._place / f"package-{welcome['package'][:12]}"
        if not package.exists():
            data = blobs[0] if blobs else self._fetch(welcome["package_size"])
            if digest(data) != welcome["package"]:
                raise PackageError(
                    "the job package that arrived has a wrong hash",
                    why=f"expected {welcome['package'][:12]}, got {digest(data)[:12]}",
                    remedy="submit the job again",
                    where=os.uname().nodename,
                )
            unpack(data, package)
        self._package = welcome["package"], package
        job: dict[str, Any] = {
            "worker_id": welcome["worker_id"],
            "attempt": welcome["attempt"],
            "n_workers": welcome["n_workers"],
            "cpus": welcome["cpus"],
            "package": str(package),
        }
        descriptor = self._serve_pmi() if welcome["pmi"] else None
        self._memory.begin()
        self._user = UserProcess(self._fork_server, job, descriptor)
        if self._pmi is not None:
            self._pmi.release_process_fd()

    def _serve_pmi(self) -> int:
        from twister2.worker.pmi import PmiService

        rank, size, attempt = self._welcome["worker_id"], self._welcome["n_workers"], self._welcome["attempt"]
        kvsname = f"{self._welcome['job_id']}-{attempt}"
        self._pmi = PmiService(rank, size, kvsname, lambda puts: self._send("fence", {"puts": puts}))
        return os.dup(self._pmi.process_fd)

    def _fetch(self, size: int) -> bytes:
        assert self._dialer is not None
        data = bytearray()
        while len(data) < size:
            answer = self._dialer.request("package", {"offset": len(data)}, ("chunk",), 30.0, others=self._early)
            data += answer.blobs[0]
        return bytes(data)

    def _send(self, kind: str, body: dict[str, Any], blobs: tuple[bytes, ...] = ()) -> None:
        assert self._dialer is not None
        self._dialer.send(kind, {"attempt": self._welcome["attempt"], **body}, blobs)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Supervise until the master says the job is over, goes away, or a signal comes; returns the exit code."""
        needed = True
        while needed:
            try:
                self._serve()
                break
            except MasterReturned:
                needed = self._joined_again()
            except MasterLostError as error:
                self._lose_master(error)
                return 1
            except ForkServerLost:
                self._lose_fork_server()
                return 1
        self._finish()
        return 0

    def _joined_again(self) -> bool:
        """Join the attempt of a master that was started again, or leave nothing behind. False: it is not needed."""
        try:
            return self._join_again()
        except BaseException as error:
            if self._welcome and isinstance(error, Twister2Error):
                self.give_up(error)
            else:
                self._finish("it could not join the job master that was started again", linger_s=0.0)
            raise

    def _serve(self) -> None:
        assert self._dialer is not None
        heartbeat_s, master_lost_s = self._welcome["heartbeat_s"], self._welcome["master_lost_s"]
        next_beat = time.monotonic()
        self._take_all()
        while not self._stop:
            now = time.monotonic()
            if now >= next_beat:
                if has_returned(self._ticket_path, self._welcome["master"]):
                    raise MasterReturned
                self._beat()
                next_beat = now + heartbeat_s
            if now - self._heard > master_lost_s:
                raise MasterLostError(
                    f"the job master has been silent for {master_lost_s:g} s",
                    why="it died, its host did, or the network between is cut",
                    remedy="see the job's log; submit the job again",
                    where=os.uname().nodename,
                )
            poller = zmq.Poller()
            poller.register(self._dialer.socket, zmq.POLLIN)
            poller.register(self._fork_server.pipe.fileno(), zmq.POLLIN)
            user = self._user
            for descriptor in () if user is None else user.readable:
                poller.register(descriptor, zmq.POLLIN)
            if user is not None and user.pipe.wants_write:
                events = zmq.POLLIN if user.pipe.fileno() in user.readable else 0
                poller.register(user.pipe.fileno(), events | zmq.POLLOUT)
            if self._pmi is not None:
                poller.register(self._pmi.fileno(), zmq.POLLIN)
            until = next_beat if user is None or user.kill_at is None else min(next_beat, user.kill_at)
            if user is not None and user.more and not user.must_wait:
                until = now  # in the pipe, and perhaps read from it already
            poller.poll(max(0, int((until - time.monotonic()) * 1000) + 1))
            self._take_all()

    def _take_all(self) -> None:
        assert self._dialer is not None
        while (message := self._early.pop(0) if self._early else self._dialer.receive(0)) is not None:
            self._heard = time.monotonic()
            self._from_master(message)
        user = self._user
        if user is not None:
            user.pipe.flush()
            if not user.must_wait:
                self._read(user)
            user.kill_if_due()
        if self._ending and (self._user is None or self._user.reported_late):
            self._stop = True
        if self._pmi is not None:
            self._pmi.on_readable()
            if self._pmi.wants_write:
                self._pmi.on_writable()
        while (frame := self._fork_server.pipe.receive()) is not None:
            self._from_fork_server(*frame[:2])
        if self._fork_server.pipe.closed and not self._stop:
            raise ForkServerLost

    def _read(self, user: UserProcess, *, to_the_end: bool = False) -> None:
        """Pass on what the user process wrote and said."""
        for stream, text in user.written(to_the_end=to_the_end):
            self._send("output", {"stream": stream, "text": text})
        for frame in user.frames(to_the_end=to_the_end):
            self._from_user(user, *frame)

    def _from_master(self, message: Message) -> None:
        user, body = self._user, message.body
        if message.kind == "refused" and body["wait"] and self._welcome["master"]:
            return  # by a later life of the master, whose ticket is on its way
        if message.kind == "refused" or (message.kind == "end" and (user is None or user.kill_at is None)):
            self._stop = True
        elif message.kind == "end":
            self._ending = True  # the user process was told to end and has its grace
        elif message.kind == "next":
            self._next_attempt(dict(body), message.blobs)
        elif body.get("attempt", self._welcome["attempt"]) != self._welcome["attempt"] or user is None:
            return
        elif message.kind == "taken":
            user.on_the_way -= body["size"]
        elif message.kind == "start":
            if self._pmi is not None:
                from twister2.worker.pmi import process_mapping

                told = json.loads(message.blobs[0])
                nodes = [told["nodes"][worker["node"]] for worker in told["workers"]]
                self._pmi.use_mapping(process_mapping([f"{node['boot_id']} {node['memory']}" for node in nodes]))
            more = {
                "curve": self._curve,
                "runtime_dir": str(self._place.parent),
                "volatile": str(self._place / "volatile"),
            }
            user.tell("start", more, message.blobs[0])
        elif message.kind == "abort":
            user.abort(body["error"], body["grace_s"], interrupt=body.get("interrupt", False))
        elif message.kind == "fenced" and self._pmi is not None:
            self._pmi.fence_done(body["puts"])
        elif message.kind in FORWARDED_TO_USER:
            user.tell(message.kind, dict(body), message.blobs[0] if message.blobs else b"")

    def _from_user(self, user: UserProcess, kind: str, body: dict[str, Any], blob: bytes) -> None:
        if kind == "returned":
            user.result, user.last = blob, body["last"]
        elif kind == "failed":
            user.failed = True
            self._send("failed", body)
        else:
            self._send(kind, body, (blob,) if blob else ())

    def _from_fork_server(self, kind: str, body: dict[str, Any]) -> None:
        user = self._user
        if user is None or body["attempt"] != user.attempt:
            return  # of an attempt that was given up
        if kind == "forked":
            user.is_forked(body["pid"])
        elif kind == "refused":
            self._from_user(user, "failed", {"error": self._not_forked(body["why"]).to_dict()}, b"")
            self._user_ended(user, 1)
        elif kind == "ended":
            self._user_ended(user, body["code"])

    def _not_forked(self, why: str) -> ResourceError:
        return ResourceError(
            f"the process of worker {self._welcome['worker_id']} could not be started",
            why=f"fork: {why}",
            remedy="raise the limit on processes (ulimit -u, the container's or cgroup's pids.max), or free memory",
            where=f"host {os.uname().nodename}",
        )

    def _user_ended(self, user: UserProcess, code: int) -> None:
        """Everything the user process wrote is read; what it left behind is ended; the master hears how it ended."""
        user.end_leftovers()
        self._sweep()
        self._read(user, to_the_end=True)
        out_of_memory = code == -signal.SIGKILL and self._memory.killed_lately()
        body = {
            "code": code,
            "memory_limit_mb": self._memory.limit_mb() if out_of_memory else None,
            "returned": user.result is not None and not user.failed,
            "failed": user.failed,
            "aborted": user.aborted,
            "tail": list(user.tail),
            "steps": user.steps(),
            "last": user.last,
        }
        self._send("ended", body, () if user.result is None else (user.result,))
        user.close()
        self._user = None
        if self._pmi is not None:
            self._pmi.close()
            self._pmi = None

    def _next_attempt(self, welcome: dict[str, Any], blobs: tuple[bytes, ...]) -> None:
        self._drop_user()
        self._welcome = welcome
        self._begin_attempt(blobs)

    def _drop_user(self) -> None:
        """The attempt is over for us: nothing of it is left."""
        if self._user is not None:
            self._user.end()
            self._user.close()
            self._user = None
            self._sweep()
        if self._pmi is not None:
            self._pmi.close()
            self._pmi = None
        shutil.rmtree(self._place / "volatile", ignore_errors=True)

    def _beat(self) -> None:
        user = self._user
        self._memory.note()
        body: dict[str, Any] = {"steps": [], "waits_for": "", "memory": 0}
        self._fork_server.note(reap())  # processes that the program left behind: they became our children
        if user is not None:
            body = {
                "steps": user.steps(),
                "waits_for": user.board.waits_for,
                "ways": user.board.ways,
                "memory": resident_bytes(user.pid) if user.pid else 0,
            }
        self._send("beat", body)

    def _sweep(self) -> None:
        """Nothing of this worker runs any more: remove what transports left in shared memory."""
        if self._segments is not None:
            self._segments.sweep()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _lose_master(self, error: MasterLostError) -> None:
        print(str(error), file=sys.stderr, flush=True)
        user = self._user
        if user is not None:
            user.abort(error.to_dict(), 0.0)
            time.sleep(0.2)
        master = self._place.parent / "master"
        with contextlib.suppress(OSError):
            if _nobody_listens(master):  # a master that was stopped goes on some time, and starts workers again
                master.unlink()
        self._finish(linger_s=0.0)

    def _lose_fork_server(self) -> None:
        """No user process can be had any more: give up, so that the slot is started again."""
        why = f"its fork server {self._fork_server.how_it_ended()}"
        print(f"twister2 worker, slot {self.slot}: {why}", file=sys.stderr, flush=True)
        self._finish(why)

    def _finish(self, why: str = "", linger_s: float = LINGER_S) -> None:
        """End everything, remove it, and say goodbye.

        :param why: the reason, where the master did not ask for it.
        """
        if self._user is not None:
            self._user.end(grace_s=1.0)
            with contextlib.suppress(MasterLostError):
                self._read(self._user, to_the_end=True)
        # A request that it has not come to yet must not be granted when the folder has gone.
        self._fork_server.end()
        end_leftovers(os.getpid(), keep=set(), below_kept=True, grace_s=0.0)
        self._sweep()
        if self._folder is not None:
            self._folder.remove()
            with contextlib.suppress(OSError):
                self._place.parent.rmdir()
        if self._dialer is not None:
            with contextlib.suppress(MasterLostError):
                self._dialer.send("bye", {"slot": self.slot, "why": why})
            self._dialer.close(linger_s=linger_s)
            self._dialer = None

    def give_up(self, error: Twister2Error) -> None:
        """It cannot go on: the job hears why where it had been let in, and nothing is left behind."""
        if self._dialer is None or not self._welcome:
            return
        lost = isinstance(error, MasterLostError)
        with contextlib.suppress(MasterLostError):
            if not lost:
                self._send("failed", {"error": error.to_dict()})
        self._finish(error.what, linger_s=0.0 if lost else LINGER_S)

    def stop(self) -> None:
        """Asked from a signal handler: end the user process and go; at once when it still waits to be let in."""
        self._stop = True
        if not self._welcome:
            raise SystemExit(128 + signal.SIGTERM)


def _nobody_listens(path: Path) -> bool:
    """Whether the process whose Unix socket this is has gone. One that is stopped, or hangs, still listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return True
        except OSError:  # not there, or many wait already
            return False
    return False


def main() -> NoReturn:
    """Run a supervisor as the environment says: ``TWISTER2_TICKET`` and the slot (``TWISTER2_SLOT_FROM``)."""
    variable = os.environ.get("TWISTER2_SLOT_FROM", "TWISTER2_SLOT")
    slot = int(os.environ[variable]) + int(os.environ.get("TWISTER2_SLOT_BASE", "0"))
    adopt_orphans()
    fork_server = ForkServer()
    supervisor = Supervisor(slot, os.environ["TWISTER2_TICKET"], fork_server)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = 1
    try:
        code = supervisor.run() if supervisor.join() else 0
    except Twister2Error as error:
        print(str(error), file=sys.stderr)
        supervisor.give_up(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything was released; tearing down the interpreter would only take time
