"""The backend: ways in (``sources.py``) and one way out to each peer (``outgoing.py``).

Inside a host a way is a Unix socket that this thread writes to or reads (``lane.py``). Between hosts a PUSH socket
dials the peer's PULL socket, and libzmq moves the data in its own thread. What is under way to a peer is bounded by a
window in bytes and messages: the reader tells how much it has read in the headers of its own messages, or in messages
of their own when it has nothing to send.
"""

from __future__ import annotations

import collections
import contextlib
import os
import time
from typing import TYPE_CHECKING, ClassVar

import zmq

from twister2.spec.comm import Received, Send, Transport, TransportFacts
from twister2.spec.errors import NetworkError
from twister2.spec.transports import session_id, socket_path

from .address import endpoint, is_loopback, listen_addresses, own_loopback, targets
from .collectives import DATA, MOST, Part, TcpCollectives
from .dial import Dial
from .incoming import Incoming
from .limits import BASE, DIALLED, check_descriptors
from .outgoing import PATIENCE_S, Outgoing
from .plugin import FACTS
from .sources import Sources
from .wire import (
    LARGEST,
    CallPacker,
    Head,
    Kind,
    MalformedError,
    call_prefix,
    head_of,
    read_call,
    read_head,
    unpack,
)
from .zap import KeyGuard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.spec.batch import Buffer
    from twister2.spec.collectives import NativeCollectives
    from twister2.spec.comm import Address, TransportContext

    from .config import TcpConfig
    from .lane import First

    Socket = zmq.Socket[bytes]

_DRAIN = 128
"""Messages taken in by one call of progress, fewer where they are large, so that it stays short."""
_ASK_AGAIN = 16
"""Every so many messages that are read, all are asked for new ones, so that one peer's backlog keeps nobody waiting."""
_TICK_S = 0.25
_REMEDY = 'give it mode 700 and this user, or set comm.tcp.same_host = "tcp"'
_NO_UNIX = 'see that its folder is there and has room, or set comm.tcp.same_host = "tcp"'
_NO_PORT = "set comm.tcp.port = 0 to let the system choose, or comm.tcp.interface to an interface it has"
_LOOK_S = 0.02
"""How often a close that waits for a peer looks whether the peer still listens."""


class TcpTransport(Transport):
    """Messages over Unix and TCP sockets. Read :attr:`dropped` for the number of messages that were not for us."""

    facts: ClassVar[TransportFacts] = FACTS

    def __init__(self, config: TcpConfig, context: TransportContext) -> None:
        self._config, self._context = config, context
        self._session = session_id(context.job_id, context.session, size=8)
        self._open = False
        self._zmq: zmq.Context[Socket] | None = None
        """Made when something goes over TCP."""
        self._guard: KeyGuard | None = None
        self._sources: Sources | None = None
        self._path = ""
        self._addresses: dict[int, Address] = {}
        self._out: dict[int, Outgoing] = {}
        self._dialling: set[int] = set()
        self._in: dict[int, Incoming] = {}
        self._turns: collections.deque[int] = collections.deque()
        self._unasked = 0
        self._tick = 0.0
        self._groups: dict[int, TcpCollectives | None] = {}
        """By number; None when closed."""
        self._turns_of: dict[tuple[int, ...], int] = {}
        self._early: dict[int, list[tuple[int, Part]]] = {}
        """What came for groups that are not made here yet: worker and its part, by number."""
        self._call_prefix = call_prefix(context.attempt)
        self._packer = CallPacker(context.attempt, context.rank, self._session)
        self.dropped = 0

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> Address:
        context, config = self._context, self._config
        check_descriptors(BASE, "open the transport")
        self._path = socket_path(context, "t", _REMEDY) if config.same_host == "ipc" else ""
        addresses = listen_addresses(config, context, ipc=bool(self._path))
        self._sources = Sources(self._take, self._ended, self._drop)
        self._open = True
        port, everywhere = 0, bool(addresses) and not (config.interface or all(map(is_loopback, addresses)))
        try:
            if self._path:
                try:
                    self._sources.listen(self._path)
                except OSError as error:
                    raise self._cannot_listen(self._path, error, _NO_UNIX) from error
            if addresses:
                pull = self._pull(addresses)
                if not config.plain:
                    self._guard = KeyGuard(self._context_of_zmq())
                    pull.curve_server = True
                    pull.curve_secretkey = context.curve_secret.encode()
                port = self._bind_tcp(pull, "*" if everywhere else addresses[0])
        except BaseException:
            self.close(aborted=True)
            raise
        loopback = own_loopback(context) if everywhere else ""
        where = {"boot": context.node.boot_id, "ipc": self._path, "loopback": loopback}
        return {**where, "tcp": addresses, "port": port}

    def connect(self, peers: Mapping[int, Address]) -> None:
        self._addresses = dict(peers)
        if self._guard is not None:
            self._guard.allow(self._context.peer_keys.values())

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        if not self._open:
            return
        self._open = False
        try:
            if not aborted:
                self._flush(time.monotonic() + deadline_s)
        finally:
            for out in self._out.values():
                out.close()
            if self._sources is not None:
                self._sources.close()
            if self._guard is not None:
                self._guard.stop()
            if self._zmq is not None:
                self._zmq.destroy(linger=0)  # and what an error still holds: its end would be waited for without end
                self._zmq = None
            if self._guard is not None:
                self._guard.join(1.0)
            self._out, self._in = {}, {}
            self._groups.clear()
            self._early.clear()
            self._turns.clear()
            if self._path:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)

    # -- messages ------------------------------------------------------------------------------------------------------

    def reaches(self, peer: int) -> bool | None:
        out = self._outgoing(peer)
        out.progress()
        return out.reaches

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        out = self._out.get(peer) or self._outgoing(peer)
        send = out.send(frames)
        if send is None:
            self.progress()
        return send

    def receive(self) -> Received | None:
        self._unasked += 1
        if self._unasked >= _ASK_AGAIN:
            self._unasked = 0
            self._running().take_in(_ASK_AGAIN, look=True)
        while not self._turns:
            if not self._running().take_in(1):
                return None
        peer = self._turns.popleft()
        queue = self._in[peer]
        frames = queue.get()
        if queue:
            self._turns.append(peer)
        if queue.worth_telling:
            self._outgoing(peer).tell(Kind.ACK)
        return Received(peer, frames)

    def progress(self) -> bool:
        sources = self._running()
        moved = sources.take_in(_DRAIN)
        if self._dialling:
            for peer in list(self._dialling):
                if self._out[peer].progress():
                    moved = True
                    self._dialling.discard(peer)
        now = time.monotonic()
        for out in self._out.values():
            # what was collected waits no longer when there is nothing else to do
            if out.flush(PATIENCE_S if moved else 0.0, now) or (out.pushes and out.push()):
                moved = True
        if now - self._tick > _TICK_S:
            self._tick = now
            for out in self._out.values():
                out.sync(now)
        return moved

    @property
    def spins(self) -> bool:
        return self._sources is None or not self._sources.threaded

    def wait_fd(self) -> int | None:
        return self._sources.fd if self._open and self._sources is not None else None

    def state(self, peer: int) -> str:
        out, queue = self._out.get(peer), self._in.get(peer)
        words = [out.state if out is not None else "0 sent", queue.state if queue is not None else "0 came"]
        if self.dropped:
            words.append(f"{self.dropped} dropped, of whomever")
        if self.untold:
            words.append(f"{self.untold} found that no descriptor had told of")
        return ", ".join(words)

    @property
    def untold(self) -> int:
        """How often a message was found that its socket's descriptor had not told of."""
        return 0 if self._sources is None else self._sources.untold

    # -- collectives ---------------------------------------------------------------------------------------------------

    def native(self, members: Sequence[int]) -> NativeCollectives | None:
        self._running()
        if not 1 < len(members) <= MOST:
            return None
        key = tuple(members)
        turn = self._turns_of[key] = self._turns_of.get(key, 0) + 1
        number = int.from_bytes(session_id(*key, turn, size=8), "little")
        made = self._groups[number] = TcpCollectives(self, number, key, self._context.rank)
        for peer, part in self._early.pop(number, ()):
            made.deliver(peer, part)
        return made

    def post(self, peer: int, words: bytes, data: Buffer, size: int) -> Send | None:
        """Send a part in a collective call; None when it is refused for now."""
        out = self._out.get(peer) or self._outgoing(peer)
        queue = self._in.get(peer)
        messages, n_bytes = queue.told() if queue is not None else (0, 0)
        return out.post(self._packer, messages, n_bytes, words, data, size)

    def take_one(self) -> bool:
        """Take in one message; whether there was any. After False, :meth:`wait_fd` polls readable when there is one."""
        return self._sources is not None and self._open and self._sources.take_one()

    @property
    def threaded(self) -> bool:
        """Whether a thread of zmq's moves some of the data."""
        return self._zmq is not None

    def consumed(self, peer: int, message: First) -> None:
        """A part in a collective call was used."""
        if not self._open:
            return
        if self._in[peer].used(len(message) - DATA):
            self._outgoing(peer).tell(Kind.ACK)

    def forget(self, number: int) -> None:
        """A group is closed; what still comes for it is dropped."""
        if number in self._groups:
            self._groups[number] = None

    # -- inside --------------------------------------------------------------------------------------------------------

    def _flush(self, deadline: float) -> None:
        for _ in ("taken", "written"):  # see Outgoing.farewell
            under_way = [(out, out.farewell()) for out in self._out.values()]
            look = 0.0
            while under_way := [(out, send) for out, send in under_way if not send.done]:
                for out, _ in under_way:
                    out.push()
                now = time.monotonic()
                if now > deadline:
                    return
                if now > look:
                    under_way = [(out, send) for out, send in under_way if not out.unheard()]
                    look = now + _LOOK_S
                time.sleep(0.0002)

    def _running(self) -> Sources:
        if not self._open or self._sources is None:
            raise NetworkError(
                f"the transport of worker {self._context.rank} is closed",
                why="it was used before open or after close",
                remedy="open a transport for each attempt, and use it only until close",
            )
        return self._sources

    def _context_of_zmq(self) -> zmq.Context[Socket]:
        if self._zmq is None:
            self._running()
            self._zmq = zmq.Context(io_threads=1)
            self._zmq.set(zmq.MAX_SOCKETS, 1024 + 4 * self._context.size)
        return self._zmq

    def _pull(self, addresses: Sequence[str]) -> Socket:
        sources = self._running()
        pull = self._context_of_zmq().socket(zmq.PULL)
        sources.add(pull)
        pull.rcvhwm = 0  # the senders' windows bound what can come
        pull.linger = 0
        pull.maxmsgsize = LARGEST
        pull.ipv6 = any(":" in address for address in addresses)
        return pull

    def _push(self, peer: int, target: tuple[str, int]) -> Socket:
        push = self._context_of_zmq().socket(zmq.PUSH)
        push.sndhwm = 0  # the window bounds what goes out
        push.linger = 0
        push.reconnect_ivl = 20
        push.reconnect_ivl_max = 1000
        push.copy_threshold = 0
        push.ipv6 = ":" in target[0]
        if not self._config.plain:
            push.curve_publickey = self._context.curve_public.encode()
            push.curve_secretkey = self._context.curve_secret.encode()
            push.curve_serverkey = self._key_of(peer)
        return push

    def _key_of(self, peer: int) -> bytes:
        key = self._context.peer_keys.get(peer)
        if key is None:
            raise NetworkError(
                f"worker {self._context.rank} has no key of worker {peer}",
                why="the table of keys names other workers",
                remedy="report it: every worker of an attempt gets the keys of all",
            )
        return key.encode()

    def _bind(self, socket: Socket, where: str) -> None:
        try:
            socket.bind(where)
        except zmq.ZMQError as error:
            raise self._cannot_listen(where, error, _NO_PORT) from error

    def _cannot_listen(self, where: str, error: Exception, remedy: str) -> NetworkError:
        return NetworkError(
            f"worker {self._context.rank} cannot listen at {where} on {self._context.node.host}",
            why=str(error),
            remedy=remedy,
        )

    def _bind_tcp(self, socket: Socket, host: str) -> int:
        wanted = self._config.port + self._context.rank if self._config.port else 0
        where = f"tcp://*:{wanted or '*'}" if host == "*" else endpoint((host, wanted))
        self._bind(socket, where)
        return int(str(socket.get_string(zmq.LAST_ENDPOINT)).rpartition(":")[2])

    def _outgoing(self, peer: int) -> Outgoing:
        out = self._out.get(peer)
        if out is None:
            sources = self._running()
            check_descriptors(DIALLED, f"talk to worker {peer}")
            where = targets(self._config, self._context, peer, self._addresses.get(peer, {}))
            dial = Dial(where, lambda target: self._push(peer, target), sources.watch)
            out = self._out[peer] = Outgoing(peer, self._config, dial, self._head)
            self._dialling.add(peer)
        return out

    def _incoming(self, peer: int) -> Incoming:
        queue = self._in.get(peer)
        if queue is None:
            queue = self._in[peer] = Incoming(peer, self._config)
        return queue

    def _head(self, kind: Kind, peer: int, sequence: int) -> Head:
        context, queue = self._context, self._in.get(peer)
        messages, n_bytes = queue.told() if queue is not None else (0, 0)
        return head_of((kind, context.attempt, context.rank, self._session, sequence, messages, n_bytes, 0, 0, 0))

    def _drop(self) -> None:
        self.dropped += 1

    def _ended(self, peer: int) -> None:
        """The way in from a peer was closed: it has left, whatever else it may still have been sent."""
        out = self._out.get(peer)
        if out is not None and not out.ended:
            out.ended = "its process has ended, or has closed its transport"

    def _take(self, first: First, parts: list[memoryview]) -> int:
        """Take in what came; whose it is."""
        if first[: len(self._call_prefix)] == self._call_prefix:
            return self._take_call(first)
        try:
            head = read_head(first)
        except MalformedError:
            self.dropped += 1
            return -1
        if head.attempt != self._context.attempt or head.session != self._session:
            # a process of an earlier attempt that woke up must not be able to harm this one
            self.dropped += 1
            return -1
        try:
            if head.kind == Kind.COLLECTIVE:
                return self._take_call(first)
            self._accept(head, unpack(head, first, parts))
        except MalformedError as error:
            raise _damaged(head.rank, error) from error
        return head.rank

    def _take_call(self, first: First) -> int:
        """Take in a part in a collective call. Parts of a message that follow it are dropped when they come."""
        peer = -1
        try:
            peer, session, sequence, messages, n_bytes, number, call, wanted = read_call(first)
            if session != self._session:
                self.dropped += 1
                return -1
            if not self._hear(peer, messages, n_bytes).arrived(sequence):
                self.dropped += 1
                return peer
            part = (call, wanted, first)
            group = self._groups.get(number)
            if group is not None:
                group.deliver(peer, part)
            elif number in self._groups:
                self.consumed(peer, first)
            else:
                self._early.setdefault(number, []).append((peer, part))
        except MalformedError as error:
            raise _damaged(peer, error) from error
        return peer

    def _hear(self, peer: int, acked_messages: int, acked_bytes: int) -> Incoming:
        if peer >= self._context.size:
            raise MalformedError(f"there is no worker {peer}")
        out = self._out.get(peer)
        if out is not None:
            out.acknowledged(acked_messages, acked_bytes)
        queue = self._in.get(peer)
        return self._incoming(peer) if queue is None else queue

    def _accept(self, head: Head, messages: Sequence[tuple[memoryview, ...]]) -> None:
        peer = head.rank
        queue = self._hear(peer, head.acked_messages, head.acked_bytes)
        out = self._out.get(peer)
        if head.kind == Kind.DATA:
            empty = not queue
            self.dropped += len(messages) - queue.put(head.sequence, messages)
            if empty and queue:
                self._turns.append(peer)
            return
        queue.check(head.sequence)
        if head.kind == Kind.SYNC:
            self._outgoing(peer).tell(Kind.ACK)
        elif head.kind == Kind.BYE and out is not None:
            out.ended = "it has closed its transport"


def _damaged(peer: int, error: MalformedError) -> NetworkError:
    return NetworkError(
        f"a message from worker {peer} is damaged" if peer >= 0 else "a message is damaged",
        why=str(error),
        remedy="start the job again; see that all workers have the same version of twister2-comm-tcp",
    )
