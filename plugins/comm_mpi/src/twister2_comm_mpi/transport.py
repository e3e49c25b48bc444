"""The backend: non-blocking point-to-point messages of MPI, moved by whoever calls progress.

What is under way to a peer is bounded by a window, since MPI itself buffers small messages without bound: the reader
tells how much it has read, in the heads of its own messages or in acknowledgements.
"""

from __future__ import annotations

import collections
import time
from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.comm import Received, Send, Transport, TransportFacts
from twister2.spec.errors import NetworkError
from twister2.spec.transports import flat

from .meeting import Meetings
from .native.group import EACH_TO_EACH, MpiCollectives
from .native.reduced import Beside
from .native.rooms import rooms
from .plugin import FACTS
from .wire import ACK, ACK_FORMAT, BODY, HEAD, Head, chunks, pack, unpack
from .world import MPI, World, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twister2.spec.batch import Buffer
    from twister2.spec.collectives import NativeCollectives
    from twister2.spec.comm import Address, TransportContext

    from .config import MpiConfig

_ROUNDS = 16
"""Heads taken in from each peer by one call of progress, so that it stays short."""

_ASK_AGAIN = 16
"""Messages read from the queues before new ones are taken in, so that one peer's backlog keeps nobody waiting."""


def _allocate(size: int) -> memoryview:
    buffer: Any = MPI.buffer.allocate(size)  # not cleared, unlike a bytearray
    return memoryview(buffer)


class _Sending(Send):
    """A message on its way; ``keep`` holds the memory MPI reads from."""

    def __init__(self, requests: list[MPI.Request], keep: list[Any], *, copied: bool) -> None:
        self._requests, self._keep, self._copied = requests, keep, copied

    @property
    def done(self) -> bool:
        return self._copied or self.test()

    def test(self) -> bool:
        """Whether all of it has left."""
        while self._requests and self._requests[-1].Test():
            self._requests.pop()
        if not self._requests:
            self._keep.clear()
        return not self._requests


class _Arrival:
    """A message on its way in: first its head, then its bodies."""

    def __init__(self, buffer: memoryview, request: MPI.Request) -> None:
        self._buffer = buffer
        self._requests = [request]
        self._bodies: list[memoryview] = []
        self.head: Head | None = None

    def advance(self, comm: MPI.Comm, peer: int, chunk: int) -> bool:
        """Whether the message is complete. Posts the receives of its bodies once the head is there."""
        while self._requests and self._requests[-1].Test():
            self._requests.pop()
        if self._requests:
            return False
        if self.head is not None:
            return True
        self.head = unpack(self._buffer.toreadonly())
        for size in self.head.bodies:
            body = _allocate(size)
            self._requests += [comm.Irecv([part, MPI.BYTE], peer, BODY) for part in chunks(body, chunk)]
            self._bodies.append(body.toreadonly())
        return not self._requests or self.advance(comm, peer, chunk)

    def frames(self) -> tuple[memoryview, ...]:
        """The frames of a complete message."""
        assert self.head is not None
        return self.head.complete(self._bodies)


class _Peer:
    """What is under way to and from one rank. Counts are of messages and bytes since the beginning."""

    def __init__(self) -> None:
        self.sent = self.acked = self.read = self.told = (0, 0)
        self.arrivals: collections.deque[_Arrival] = collections.deque()
        self.ready: collections.deque[tuple[memoryview, ...]] = collections.deque()


class MpiTransport(Transport):
    """One rank. Only the thread that called ``open``, the main one, may call it."""

    facts: ClassVar[TransportFacts] = FACTS

    def __init__(self, config: MpiConfig, context: TransportContext) -> None:
        self._config, self._context = config, context
        self._world: World | None = None
        self._meetings: Meetings | None = None
        self._peers: dict[int, _Peer] = {}
        self._sending: list[_Sending] = []
        self._turns: collections.deque[int] = collections.deque()
        self._groups: list[MpiCollectives] = []
        self._unasked = 0

    def open(self) -> Address:
        self._world = World(self._context, self._config.thread_level)
        self._meetings = Meetings(self._world.data, self._context.aborted, self.progress)
        self._peers = {rank: _Peer() for rank in range(self._context.size) if rank != self._context.rank}
        return {"rank": self._context.rank}

    def connect(self, peers: Mapping[int, Address]) -> None:
        self._data()

    def reaches(self, peer: int) -> bool | None:
        return peer in self._peers

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        comm, state = self._data(), self._peers[peer]
        n_messages, n_bytes = state.sent
        if (
            n_messages - state.acked[0] >= self._config.window_messages
            or n_bytes - state.acked[1] >= self._config.window_bytes
        ):
            self.progress()
            return None
        views = [flat(frame) for frame in frames]
        state.told = state.read
        head, bodies = pack(views, state.told, self._config.zero_copy_bytes)
        try:
            requests = [comm.Isend([head, MPI.BYTE], peer, HEAD)]
            for body in bodies:
                requests += [
                    comm.Isend([part, MPI.BYTE], peer, BODY) for part in chunks(body, self._config.chunk_bytes)
                ]
        except MPI.Exception as error:
            raise self._failed(f"sending to worker {peer}", error) from error
        state.sent = (n_messages + 1, n_bytes + sum(view.nbytes for view in views))
        sending = _Sending(requests, [head, views], copied=not bodies)
        if not sending.test():
            self._sending.append(sending)
        return sending

    def receive(self) -> Received | None:
        self._unasked += 1
        if not self._turns or self._unasked >= _ASK_AGAIN:
            self._unasked = 0
            self.progress()
        if not self._turns:
            return None
        peer = self._turns.popleft()
        state = self._peers[peer]
        frames = state.ready.popleft()
        if state.ready:
            self._turns.append(peer)
        state.read = (state.read[0] + 1, state.read[1] + sum(map(len, frames)))
        if (
            state.read[0] - state.told[0] >= self._config.window_messages // 4
            or state.read[1] - state.told[1] >= self._config.window_bytes // 4
        ):
            self._acknowledge(peer, state)
        return Received(peer, frames)

    def progress(self) -> bool:
        comm = self._data()
        try:
            moved = self._take_acks(comm)
            moved = self._take_heads(comm) or moved
            for peer, state in self._peers.items():
                moved = self._advance(comm, peer, state) or moved
        except MPI.Exception as error:
            raise self._failed("receiving", error) from error
        for group in self._groups:
            moved = group.verify_returned() or moved
        left = [sending for sending in self._sending if not sending.test()]
        moved = moved or len(left) < len(self._sending)
        self._sending = left
        return moved

    def wait_fd(self) -> int | None:
        return None

    def state(self, peer: int) -> str:
        known = self._peers.get(peer)
        if known is None:
            return ""
        coming = sum(one.head is not None for one in known.arrivals)
        return (
            f"{known.sent[0]} sent, {known.acked[0]} of them read there, {len(self._sending)} to anybody not sent yet, "
            f"{known.read[0] + len(known.ready)} came, {len(known.ready)} of them not read, {coming} on their way"
        )

    def native(self, members: Sequence[int]) -> NativeCollectives | None:
        self._data()
        assert self._world is not None
        assert self._meetings is not None
        meetings = self._meetings
        meetings.meet(members)

        def wait(ready: Callable[[], bool]) -> None:
            meetings.wait(ready, members)

        try:
            comm, beside, shared = self._world.group(members, wait), None, None
            if len(members) > EACH_TO_EACH:
                made = []
                for _ in Beside._fields:
                    other, request = comm.Idup()
                    finish(wait, request, other)
                    made.append(other)
                beside = Beside(*made)
            elif len(members) > 1:
                shared = rooms(comm, self._context.node.boot_id, wait)
            group = MpiCollectives(comm, members, beside, shared)
        except MPI.Exception:
            return None  # the library has no communicators left, which all members are told
        self._groups.append(group)
        return group

    def mpi_communicator(self) -> Any:
        return None if self._world is None else self._world.user

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        if self._world is None:
            return
        aborted = aborted or any(group.broken for group in self._groups)
        deadline = time.monotonic() + deadline_s
        try:
            while not aborted and self._sending and time.monotonic() < deadline and not self._context.aborted():
                if not self.progress():
                    time.sleep(0.0002)
            if not aborted and not self._sending and not self._context.aborted():
                self._world.leave(deadline, self.progress, self._groups)
        finally:
            # what MPI may still read or write stays referenced, beside its requests or by the calls of the groups;
            # without MPI_Finalize nothing waits
            self._world = self._meetings = None
            self._peers, self._sending = {}, []
            self._turns.clear()

    def _take_acks(self, comm: MPI.Comm) -> bool:
        moved = False
        status = MPI.Status()
        while (message := comm.Improbe(MPI.ANY_SOURCE, ACK, status)) is not None:
            buffer = bytearray(ACK_FORMAT.size)
            message.Recv([buffer, MPI.BYTE])  # it has arrived: this only copies
            self._acked(status.Get_source(), ACK_FORMAT.unpack(buffer))
            moved = True
        return moved

    def _take_heads(self, comm: MPI.Comm) -> bool:
        if not self._take_head(comm, MPI.ANY_SOURCE):
            return False
        # MPI gives messages from any source in the order of arrival: a flood from one would hide the others
        for _ in range(_ROUNDS):
            if not sum(self._take_head(comm, peer) for peer in self._peers):
                break
        return True

    def _take_head(self, comm: MPI.Comm, source: int) -> bool:
        status = MPI.Status()
        message = comm.Improbe(source, HEAD, status)
        if message is None:
            return False
        buffer = _allocate(status.Get_count(MPI.BYTE))
        arrival = _Arrival(buffer, message.Irecv([buffer, MPI.BYTE]))
        self._peers[status.Get_source()].arrivals.append(arrival)
        return True

    def _advance(self, comm: MPI.Comm, peer: int, state: _Peer) -> bool:
        moved = False
        while state.arrivals:
            try:
                complete = state.arrivals[0].advance(comm, peer, self._config.chunk_bytes)
            except ValueError as error:
                raise self._failed(f"a message from worker {peer} is damaged", error) from error
            if not complete:
                break
            arrival = state.arrivals.popleft()
            assert arrival.head is not None
            self._acked(peer, arrival.head.acked)
            if not state.ready:
                self._turns.append(peer)
            state.ready.append(arrival.frames())
            moved = True
        return moved

    def _acked(self, peer: int, acked: tuple[int, ...]) -> None:
        state = self._peers[peer]
        if acked[0] > state.acked[0]:  # heads and acknowledgements overtake each other
            state.acked = (acked[0], acked[1])

    def _acknowledge(self, peer: int, state: _Peer) -> None:
        state.told = state.read
        data = ACK_FORMAT.pack(*state.told)
        sending = _Sending([self._data().Isend([data, MPI.BYTE], peer, ACK)], [data], copied=True)
        if not sending.test():
            self._sending.append(sending)

    def _data(self) -> MPI.Comm:
        if self._world is None:
            raise NetworkError(
                f"the transport of worker {self._context.rank} is closed",
                why="it was used before open or after close",
                remedy="open a transport for each attempt, and use it only until close",
            )
        return self._world.data

    def _failed(self, doing: str, error: Exception) -> NetworkError:
        return NetworkError(
            f"MPI failed on worker {self._context.rank}: {doing}",
            why=str(error),
            remedy="see whether all workers are alive; a lost worker ends the attempt",
        )
