"""Worlds of transports for tests: N ranks as threads or as forked processes, each running one small function.

The ranks talk to the test over pipes of their own, never over the transport under test: addresses, barriers, results.
A rank that waits too long, dies or raises ends the world, and the test sees what each rank was doing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

from twister2.spec.comm import Received, Send, Transport, TransportContext
from twister2.spec.environment import NodeFacts
from twister2.worker.segments import Segments

if TYPE_CHECKING:
    from twister2.spec.batch import Buffer

Answer = TypeVar("Answer")

_fork = multiprocessing.get_context("fork")

SHOW = signal.SIGUSR2
"""Makes a process of a world write where its threads are."""
SHOW_S = 0.2


class RankFailedError(AssertionError):
    """A rank raised, died or waited in vain; the text has every rank's report."""


@attrs.frozen
class Died:
    """Result of a rank whose process ended without one: exit code, negative for a signal."""

    exit_code: int | None


class Services(Protocol):
    """What a world needs besides processes, e.g. a process manager. Lives in the test's process."""

    def enter(self, rank: int) -> None:
        """Called in the process of ``rank`` before its transport is made."""

    def started(self) -> None:
        """All ranks are started."""

    def descriptors(self) -> Sequence[int]:
        """What to poll for reading."""

    def on_readable(self, descriptor: int) -> None:
        """One of them is readable."""

    def close(self) -> None:
        """The world has ended."""


@attrs.define
class Rank:
    """What a rank's function gets.

    :ivar timeout_s: how long a single wait may take.
    """

    id: int
    size: int
    transport: Transport
    context: TransportContext
    addresses: dict[int, Mapping[str, Any]]
    timeout_s: float
    _pipe: Connection

    @property
    def others(self) -> list[int]:
        """All ranks but this one."""
        return [rank for rank in range(self.size) if rank != self.id]

    def send(self, peer: int, frames: Sequence[Buffer]) -> Send:
        """Hand over a message, progressing until it is accepted."""
        return self.until(lambda: self.transport.isend(peer, frames), f"worker {peer} to accept a message")

    def receive(self) -> Received:
        """The next message."""
        return self.until(self.transport.receive, "a message")

    def finish(self, send: Send) -> None:
        """Wait until the transport no longer needs the frames."""
        self.until(lambda: send.done or None, "a send to be done")

    def until(self, ask: Callable[[], Answer | None], what: str) -> Answer:
        """Progress until ``ask()`` gives something else than None."""
        deadline = time.monotonic() + self.timeout_s
        spins = 0
        while (answer := ask()) is None:
            assert time.monotonic() < deadline, f"worker {self.id} waited {self.timeout_s} s for {what}"
            assert not self.context.aborted(), f"another worker failed while worker {self.id} waited for {what}"
            if not self.transport.progress():
                spins += 1
                time.sleep(0 if spins < 20 else 0.0005)
        return answer

    def sync(self, name: str, *, progress: bool = True) -> None:
        """Barrier of all ranks, beside the transport, which is progressed meanwhile (nothing is received)."""
        self._pipe.send(("barrier", name))
        deadline = time.monotonic() + self.timeout_s
        while not self._pipe.poll(0.0005 if progress else 0.05):
            assert time.monotonic() < deadline, f"worker {self.id} waited {self.timeout_s} s at the barrier {name!r}"
            if progress:
                self.transport.progress()
        self._pipe.recv()

    def quiet(self, seconds: float = 0.1) -> None:
        """Check that nothing comes for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            received = self.transport.receive()
            assert received is None, f"worker {self.id} got a message nobody should have sent, from {received}"
            self.transport.progress()
            time.sleep(0.001)

    def reach_all(self) -> None:
        """Check that every other rank can be reached."""
        for peer in self.others:
            reached = self.until(partial(self.transport.reaches, peer), f"knowing whether {peer} is reached")
            assert reached, f"worker {peer} is not reached from worker {self.id}"


@attrs.define
class World:
    """Runs functions on ranks.

    :ivar make: makes the transport of a rank. :ivar processes: forked processes instead of threads.
    :ivar services: made once per world. :ivar attempts: attempt number of each rank, all 1 when None.
    """

    size: int
    make: Callable[[TransportContext], Transport]
    processes: bool
    timeout_s: float = 30.0
    services: Callable[[int], Services | None] = lambda size: None
    node: NodeFacts = attrs.field(factory=lambda: NodeFacts("localhost", ("127.0.0.1",), boot_id="one-kernel"))
    close: bool = True
    """Whether ranks close their transports, orderly, after their functions have returned on all of them."""
    grace_s: float = 10.0
    """What the world may take beside three waits."""
    segments: Sequence[str] = ()
    """What segments are called that ranks may leave which are killed, as their transports declare."""

    def run(self, function: Callable[[Rank], Any]) -> list[Any]:
        """Run ``function`` on every rank; its results by rank, :class:`Died` for a process that was killed.

        :raises RankFailedError: a rank raised or did not end in time.
        """
        folder = tempfile.mkdtemp(prefix="t2")
        keys = [_keypair() for _ in range(self.size)]
        session = uuid.uuid4().hex
        services = self.services(self.size)
        aborted = threading.Event()
        pipes = [_fork.Pipe() for _ in range(self.size)]
        runners: list[Any] = []
        stacks = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        begun = time.time()
        try:
            for rank in range(self.size):
                context = TransportContext(
                    job_id="conformance",
                    attempt=1,
                    rank=rank,
                    size=self.size,
                    node=self.node,
                    runtime_dir=folder,
                    session=session,
                    curve_public=keys[rank][0],
                    curve_secret=keys[rank][1],
                    peer_keys={number: key[0] for number, key in enumerate(keys)},
                    aborted=aborted.is_set,
                )
                runner = _Runner(self, context, function, pipes, services, stacks)
                kind = _fork.Process if self.processes else threading.Thread
                runners.append(kind(target=runner, daemon=True))
                runners[-1].start()
            if self.processes:
                for _, theirs in pipes:
                    theirs.close()
            if services is not None:
                services.started()
            return self._follow([ours for ours, _ in pipes], runners, services, stacks)
        finally:
            aborted.set()
            killed = [runner for runner in runners if self.processes and runner.is_alive()]
            for runner in killed:
                os.kill(runner.pid, signal.SIGKILL)
            for runner in runners:
                runner.join(5)
            if killed:  # a job's supervisors would remove what these have left of what was theirs alone to remove
                Segments(self.segments, since=begun).sweep()
            if services is not None:
                services.close()
            for ours, theirs in pipes:
                ours.close()
                theirs.close()
            stacks.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _follow(
        self, pipes: list[Connection], runners: list[Any], services: Services | None, stacks: IO[bytes]
    ) -> list[Any]:
        results: dict[int, Any] = {}
        waiting: dict[int, tuple[str, Any]] = {}
        left = dict(enumerate(pipes))
        # shorter than the time that a test has, so that it is told who hangs
        deadline = time.monotonic() + 3 * self.timeout_s + self.grace_s
        while left:
            descriptors = list(services.descriptors()) if services is not None else []
            ready = multiprocessing.connection.wait([*left.values(), *descriptors], 0.5)
            for rank, pipe in list(left.items()):
                if pipe not in ready:
                    continue
                try:
                    kind, value = pipe.recv()
                except (EOFError, ConnectionResetError):
                    runners[rank].join(30)
                    results[rank] = Died(getattr(runners[rank], "exitcode", None))
                    del left[rank]
                    continue
                if kind == "error":
                    raise RankFailedError(f"worker {rank} failed; others: {waiting}\n{value}")
                if kind == "result":
                    results[rank] = value
                    del left[rank]
                else:
                    waiting[rank] = (kind, value)
            if services is not None:
                for descriptor in set(descriptors).intersection(ready):
                    services.on_readable(descriptor)
            # a rank that died waits for nothing; one that has returned its result has passed all barriers
            if waiting and len(waiting) == len(left):
                answer = {rank: value for rank, (_, value) in waiting.items()}
                waiting.clear()
                for pipe in left.values():
                    with contextlib.suppress(BrokenPipeError):
                        pipe.send(answer)
            if time.monotonic() > deadline:
                where = self._stacks({rank: runners[rank] for rank in left}, stacks)
                raise RankFailedError(f"workers {sorted(left)} did not end; at barriers: {waiting}\n{where}")
        return [results[rank] for rank in range(self.size)]

    def _stacks(self, runners: Mapping[int, Any], stacks: IO[bytes]) -> str:
        """Where these ranks are, in C as well."""
        if not self.processes:
            frames = sys._current_frames()
            found = {rank: traceback.format_stack(frames.get(runner.ident)) for rank, runner in runners.items()}
            return "\n".join(f"worker {rank}:\n{''.join(lines)}" for rank, lines in found.items())
        text = []
        for rank, runner in runners.items():
            before = os.fstat(stacks.fileno()).st_size
            os.kill(runner.pid, SHOW)  # not reaped yet: nobody else has its number
            time.sleep(SHOW_S)
            size = os.fstat(stacks.fileno()).st_size - before
            text.append(f"worker {rank}:\n{os.pread(stacks.fileno(), size, before).decode(errors='replace')}")
        return "\n".join(text)


@attrs.define
class _Runner:
    """The life of one rank, in its thread or process."""

    world: World
    context: TransportContext
    function: Callable[[Rank], Any]
    pipes: list[tuple[Connection, Connection]]
    services: Services | None
    stacks: IO[bytes]

    def __call__(self) -> None:
        pipe = self.pipes[self.context.rank][1]
        if self.world.processes:
            faulthandler.register(SHOW, self.stacks.fileno())
            for number, (ours, theirs) in enumerate(self.pipes):
                ours.close()
                if number != self.context.rank:
                    theirs.close()
        try:
            result = self._live(pipe)
        except BaseException:
            report = ("error", traceback.format_exc())
        else:
            report = ("result", result)
        try:
            with contextlib.suppress(OSError):  # the test has given up already
                pipe.send(report)
        finally:
            if self.world.processes:
                os._exit(0)

    def _live(self, pipe: Connection) -> Any:
        rank = self.context.rank
        if self.services is not None:
            self.services.enter(rank)
        transport = self.world.make(self.context)
        ok = False
        try:
            # as between real workers: only what JSON can carry
            pipe.send(("address", json.loads(json.dumps(dict(transport.open())))))
            addresses = pipe.recv()
            transport.connect(addresses)
            here = Rank(rank, self.world.size, transport, self.context, addresses, self.world.timeout_s, pipe)
            result = self.function(here)
            if self.world.close:
                here.sync("end")
                transport.close()
            ok = True
            return result
        finally:
            transport.close(aborted=not ok)


def _keypair() -> tuple[str, str]:
    try:
        import zmq
    except ImportError:  # a transport that needs keys needs pyzmq too
        return "", ""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()
