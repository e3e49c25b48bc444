"""The backend: workers of one host that map each other's memory.

Nothing here waits, and nothing needs a system call while both sides are awake: a sender writes into its ring and says
so in the reader's home segment; the reader looks there. A reader that has looked in vain for a while says that it is
asleep, and is woken by its bell (an event descriptor), which is written to only then.
"""

from __future__ import annotations

import collections
import os
import secrets
import select
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twister2.spec import fence
from twister2.spec.comm import Received, Send, Transport, TransportFacts
from twister2.spec.errors import NetworkError

from . import meeting
from .entrance import Entrance
from .home import ASLEEP, CLOSED, NONCE, REFUSED, WORD, Layout, as_words
from .limits import descriptors_for
from .outgoing import Outgoing, Slots
from .peer import Peer
from .plugin import FACTS
from .pool import Pool
from .ring import words
from .segment import Segment

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping, Sequence

    from twister2.spec.batch import Buffer
    from twister2.spec.collectives import NativeCollectives
    from twister2.spec.comm import Address, TransportContext

    from .collectives.group import ShmCollectives
    from .config import ShmConfig

IDLE_CALLS: Final = 40
"""Calls of progress in vain before this worker says that it sleeps: some 20 µs. Until then progress says that it
moved, so that nobody goes to sleep on the descriptor."""
_LEAST_POOL: Final = 1 << 20
_OF_LIMIT: Final = 16
"""The pool is at most this part of the worker's memory limit."""
_AGAIN: Final = 8
"""The same, while it sleeps: how often the bell is taken off."""
_LOOK: Final = 512
"""Calls of progress between two looks at the connections, when there is no idle time."""
_ASK_AGAIN: Final = 16
"""Messages read from known backlogs before the others are looked at."""


class _Sent(Send):
    @property
    def done(self) -> bool:
        return True


_SENT = _Sent()


class ShmTransport(Transport):
    """Messages through shared memory."""

    facts: ClassVar[TransportFacts] = FACTS

    def __init__(self, config: ShmConfig, context: TransportContext) -> None:
        self._config, self._context = config, context
        self._layout = Layout(context.size)
        self._sender = meeting.Sender(context)
        self._nonce = secrets.token_bytes(NONCE)
        self._entrance: Entrance | None = None
        self._epoll: select.epoll | None = None
        self._bell = -1
        self._own: Segment | None = None
        self._home: mmap.mmap | None = None
        self._words: memoryview | None = None
        self._pool: Pool | None = None
        self._pool_bytes = config.pool_bytes
        self._peers: dict[int, Peer] = {}
        self._by_fd: dict[int, Peer] = {}
        self._tails = slice(self._layout.tails, self._layout.tails + 8 * context.size)
        self._unpack = words(context.size).unpack
        self._seen = bytes(8 * context.size)
        self._turns: collections.deque[Peer] = collections.deque()
        self._asked = self._idle = self._since_look = 0
        self._asleep = False
        self._turns_of: dict[tuple[int, ...], int] = {}
        self._parted: list[Outgoing] = []
        """Ways to peers that have closed, and still hold frames."""
        self._groups: list[ShmCollectives] = []
        self.busy: list[ShmCollectives] = []
        """Groups whose members wait for each other."""

    # -- life ----------------------------------------------------------------------------------------------------------

    def limit_memory(self, n_bytes: int) -> int:
        share = max(_LEAST_POOL, n_bytes // _OF_LIMIT)
        if share < self._pool_bytes:
            self._pool_bytes = 1 << (share.bit_length() - 1)
        return 2 * self._pool_bytes  # its own, and what it maps of its peers' pools: a part of each

    def open(self) -> Address:
        context = self._context
        try:
            self._own = Segment(self._layout.n_bytes, context.runtime_dir)
            self._home = self._own.map
            self._words = as_words(self._home)
            self._layout.write(self._home, context.attempt, context.rank, self._nonce)
            self._slots = Slots(self._home, self._layout)
            self._pool = Pool(context.runtime_dir, self._pool_bytes, self._dropped)
            with descriptors_for("a bell"):
                self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                self._epoll = select.epoll()
            self._epoll.register(self._bell, select.EPOLLIN)
            self._entrance = Entrance(context, self._sender, self._epoll)
            path = self._entrance.open()
        except BaseException:
            self.close(aborted=True)
            raise
        return {"path": path, "nonce": self._nonce.hex(), "boot": context.node.boot_id}

    def connect(self, peers: Mapping[int, Address]) -> None:
        boot = self._context.node.boot_id
        for rank, address in peers.items():
            if rank == self._context.rank:
                continue
            theirs = str(address.get("boot", ""))
            path = str(address.get("path", "")) if not boot or not theirs or boot == theirs else ""
            nonce = bytes.fromhex(str(address.get("nonce", "")))
            self._peers[rank] = Peer(rank, path, nonce, self._layout, self._context.rank)
        assert self._own is not None
        assert self._entrance is not None
        self._entrance.greet(self._peers, self._own.fd, self._bell, self._own.size)

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        # what was sent lies in memory that its reader has, or finds in its connection: there is nothing to flush
        home, self._home = self._home, None
        if home is not None:
            home[CLOSED] = 1
            fence.full()
        if self._entrance is not None:
            self._entrance.close()
        for peer in self._peers.values():
            peer.wake()
        for group in tuple(self._groups):
            group.close()
        for peer in self._peers.values():
            peer.release()
        self._peers, self._by_fd, self._parted = {}, {}, []
        self._turns.clear()
        if self._pool is not None:
            self._pool.close()
        if self._words is not None:
            self._words.release()
            self._words = None
        if self._own is not None:
            self._own.close()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1

    # -- messages ------------------------------------------------------------------------------------------------------

    def reaches(self, peer: int) -> bool | None:
        self._running()
        if self._entrance is not None and self._entrance.unsettled:
            self._look()
        return self._peer(peer).reaches

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        there = self._peers.get(peer) or self._peer(peer)
        out = there.out
        if out is None or there.gone:
            out = self._way_out(there)
            if out is None:
                return None
        if not out.send(frames) and not self._retried(out, frames):
            self.progress()
            return None
        fence.full()
        home = there.home
        if home is not None and home[ASLEEP]:
            there.wake()
        return _SENT

    def receive(self) -> Received | None:
        turns = self._turns
        self._asked += 1
        if not turns or self._asked >= _ASK_AGAIN:
            self._asked = 0
            home = self._home
            if home is None:
                home = self._running()
            if home[self._tails] != self._seen:
                self._notice(home)
            if not turns:
                return None
        self._awake()
        peer = turns.popleft()
        incoming = peer.incoming
        assert incoming is not None
        frames = incoming.get()
        if incoming.reader.head != incoming.reader.tail:
            turns.append(peer)
        else:
            incoming.queued = False
            peer.tell_of_room()
        if frames is None:
            return self.receive()
        return Received(peer.rank, frames)

    def progress(self) -> bool:
        home = self._home
        if home is None:
            home = self._running()
        moved = self._entrance is not None and bool(self._entrance.unsettled) and self._look()
        self._since_look += 1
        if self._since_look >= _LOOK:
            moved = self._look() or moved
        if self.busy:
            moved = self._advance() or moved
        if moved or self._turns or home[self._tails] != self._seen:
            self._awake()
            return True
        self._idle += 1
        if self._idle < IDLE_CALLS:
            # who sleeps and was not woken has nothing to do: only now and then is the bell taken off
            return not (self._asleep and home[ASLEEP])
        self._idle = IDLE_CALLS - _AGAIN
        return self._fall_asleep(home)

    def wait_fd(self) -> int | None:
        return None if self._epoll is None else self._epoll.fileno()

    def state(self, peer: int) -> str:
        known = self._peers.get(peer)
        return "" if known is None or self._home is None else known.state

    def allocate(self, nbytes: int) -> memoryview | None:
        self._running()
        assert self._pool is not None
        if nbytes <= 0:
            return memoryview(bytearray())
        try:
            return self._pool.allocate(nbytes)
        except NetworkError:
            return None

    def native(self, members: Sequence[int]) -> NativeCollectives | None:
        self._running()
        if len(members) < 2:
            return None
        from .collectives.group import make_group

        key = tuple(members)
        turn = self._turns_of[key] = self._turns_of.get(key, 0) + 1
        found = make_group(self, key, turn)
        if found is not None:
            self._groups.append(found)
        return found

    @property
    def refused(self) -> int:
        """Strangers that were turned away."""
        return 0 if self._entrance is None else self._entrance.refused

    # -- for groups ----------------------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """This worker's id."""
        return self._context.rank

    @property
    def nonce(self) -> bytes:
        """What proves that memory is this worker's."""
        return self._nonce

    @property
    def aborted(self) -> bool:
        """Whether the attempt is over."""
        return self._context.aborted()

    @property
    def folder(self) -> str:
        """Where nameless files lie on systems without memfd."""
        return self._context.runtime_dir

    @property
    def shared_in(self) -> str:
        """Where its memory has files; empty where it is anonymous."""
        return "" if self._own is None else self._own.folder

    @property
    def stage_bytes(self) -> int:
        """Memory of one member through which large collective operations pass."""
        return self._config.stage_bytes

    def peer(self, rank: int) -> Peer:
        """What is known of another worker.

        :raises NetworkError: it is not reached through shared memory.
        """
        return self._peer(rank)

    def invite(self, peer: Peer, fd: int, number: int, size: int) -> bool:
        """Share a group's memory; False when the peer has not read what was said before."""
        return peer.link is not None and self._sender.send(peer.link, meeting.GROUP, (fd,), number, size)

    def where(self, array: Any, peers: Sequence[Peer]) -> tuple[int, int]:
        """Segment and place of an array in memory from :meth:`allocate` that these peers can map; else (0, 0)."""
        assert self._pool is not None
        found = self._pool.find(memoryview(array)) if array is not None else None
        if found is None:
            return 0, 0
        for peer in peers:
            # of who is gone nothing is asked: that would move calls on, and this is the beginning of one
            out = peer.out or (self._way_out(peer) if peer.reaches else None)
            if out is None or not out.share(found[0].segment):
                return 0, 0
        return found[0].segment, found[1]

    def listen(self) -> bool:
        """Take in what peers say; whether anything was there."""
        return self._look()

    def forget(self, group: ShmCollectives) -> None:
        """A group is closed."""
        for known in (self.busy, self._groups):
            if group in known:
                known.remove(group)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _running(self) -> mmap.mmap:
        if self._home is None:
            raise NetworkError(
                f"the transport of worker {self._context.rank} is closed",
                why="it was used before open or after close",
                remedy="open a transport for each attempt, and use it only until close",
            )
        return self._home

    def _peer(self, rank: int) -> Peer:
        self._running()
        found = self._peers.get(rank)
        if found is None:
            raise NetworkError(
                f"worker {rank} cannot be reached through shared memory",
                why="it has published no address",
                remedy="use worker ids of this attempt, after connect",
            )
        return found

    def _way_out(self, peer: Peer) -> Outgoing | None:
        """Messages to this peer, or None while there is no way yet."""
        self._running()
        peer.check()
        if not peer.reaches or peer.link is None or peer.words is None:
            self.progress()
            return None
        if peer.out is None:
            assert self._pool is not None
            near = max(1, sum(each.home is not None for each in self._peers.values()))
            quota = max(1 << 20, self._pool_bytes // near)
            out = Outgoing(peer.rank, self._config, self._layout, self._pool, self._slots, quota, self._sender)
            assert self._words is not None
            if not out.open(self._context.rank, peer.link, self._words, peer.words, self._context.runtime_dir):
                return None
            peer.out = out
        return peer.out

    def _retried(self, out: Outgoing, frames: Sequence[Buffer]) -> bool:
        """Send again what was refused, now that the reader is asked to tell of room: it may just have read all."""
        self._running()[REFUSED] = 1
        fence.full()
        return out.send(frames)

    def _dropped(self, number: int) -> None:
        for peer in self._peers.values():
            if peer.out is not None:
                peer.out.drop(number)

    def _notice(self, home: mmap.mmap) -> None:
        cells = home[self._tails]
        fence.publish()
        before = self._unpack(self._seen)
        for rank, cell in enumerate(self._unpack(cells)):
            if cell != before[rank]:
                (tail,) = WORD.unpack_from(home, self._layout.tails + 8 * rank)
                peer = self._peers[rank]
                if peer.incoming is None:
                    self._look()  # it reached this worker before this worker has looked who came
                incoming = peer.tail(tail)
                if not incoming.queued:
                    incoming.queued = True
                    self._turns.append(peer)
        self._seen = cells

    # -- sleeping and waking -------------------------------------------------------------------------------------------

    def _awake(self) -> None:
        self._idle = 0
        if self._asleep:
            self._asleep = False
            if self._home is not None:
                self._home[ASLEEP] = 0

    def _fall_asleep(self, home: mmap.mmap) -> bool:
        """Say that the bell must be rung from now on; True when something has come meanwhile."""
        moved = self._look()
        home[ASLEEP] = 1
        self._asleep = True
        fence.full()
        if home[self._tails] != self._seen or (self.busy and self._advance()):
            moved = True
        if moved:
            self._awake()
        return moved

    def _advance(self) -> bool:
        moved = False
        for group in list(self.busy):
            moved = group.advance() or moved
        return moved

    # -- connections ---------------------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """Look at the bell and the connections."""
        self._since_look = 0
        moved = False
        assert self._epoll is not None
        assert self._entrance is not None
        for fd, _ in self._epoll.poll(0):
            if fd == self._bell:
                os.eventfd_read(self._bell)
                moved = True
            elif fd in self._by_fd:
                peer = self._by_fd[fd]
                moved = peer.read_notes() or moved
                if peer.died:
                    self._let_go(peer, fd)
            else:
                moved = self._entrance.heard(fd, self._by_fd.__setitem__) or moved
        if self._entrance.unsettled:
            moved = self._entrance.settle() or moved
        if self._parted:
            self._parted = [out for out in self._parted if out.sweep()]
        return moved

    def _let_go(self, peer: Peer, fd: int) -> None:
        """A peer's connection has ended: its process is gone, or its transport closed."""
        assert self._epoll is not None
        self._epoll.unregister(fd)
        del self._by_fd[fd]
        meeting.remove(peer.path)  # it may have died before everybody had come to it
        back = peer.hang_up()
        if back is not None:
            back.close()
        out, peer.out = peer.out, None
        if out is None:
            return
        if peer.closed:  # its process may go on, and look at what it has received
            out.part()
            self._parted.append(out)
        else:
            out.close()
