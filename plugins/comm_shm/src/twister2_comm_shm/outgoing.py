"""The way out to one peer: records in the ring, large frames in blocks that the peer maps."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Final

from twister2.spec.fence import publish
from twister2.spec.transports import PADDING, flat

from .meeting import RING, SEGMENT
from .ring import BODY, DROP, FAR, RingWriter, words
from .segment import Segment

if TYPE_CHECKING:
    import mmap
    import socket
    from collections.abc import Sequence

    from twister2.spec.batch import Buffer

    from .config import ShmConfig
    from .home import Layout
    from .meeting import Sender
    from .pool import Block, Pool

_SWEEP: Final = 64
"""Frames with a peer, beyond which those at the front are not the only ones looked at."""


class Slots:
    """The bytes in a worker's home segment that say which of its large frames are still with their receivers."""

    def __init__(self, home: mmap.mmap, layout: Layout) -> None:
        self._home, self._first = home, layout.slots
        self._free = list(range(layout.n_slots))

    def take(self) -> int:
        """A slot, marked as in use, or -1."""
        if not self._free:
            return -1
        slot = self._free.pop()
        self._home[self._first + slot] = 1
        return slot

    def give_back(self, slot: int) -> None:
        """The slot is free again."""
        self._free.append(slot)

    def held(self, slot: int) -> int:
        """Whether the receiver still has the frame."""
        return self._home[self._first + slot]


class Outgoing:
    """Messages to one peer.

    :param home: the peer's home segment. :param link: the connection for descriptors.
    """

    def __init__(
        self,
        peer: int,
        config: ShmConfig,
        layout: Layout,
        pool: Pool,
        slots: Slots,
        quota: int,
        sender: Sender,
    ) -> None:
        self._peer, self._config, self._layout = peer, config, layout
        self._pool, self._slots, self._quota, self._sender = pool, slots, quota, sender
        self._writer: RingWriter | None = None
        self._ring: mmap.mmap | None = None
        self._held: collections.deque[tuple[int, Block]] = collections.deque()
        self._held_bytes = 0
        self._shared: set[int] = set()
        self._drops: collections.deque[int] = collections.deque()
        self._inline = config.inline_bytes
        self._record = config.ring_bytes // 4
        # its reader keeps half of its share of the slots at most, so that a message with so many can always go
        self._most_frames = layout.share // 2 - 1

    # -- setting up ----------------------------------------------------------------------------------------------------

    def open(self, rank: int, link: socket.socket, own: memoryview, home: memoryview, folder: str) -> bool:
        """Make the ring and announce it; False when the peer has not read earlier notes.

        :param own, home: home segments of this worker and of the peer, as words.

        :raises NetworkError: too little memory.
        """
        ring = Segment(self._config.ring_bytes, folder)
        if not self._sender.send(link, RING, (ring.fd,), self._quota, ring.size):
            ring.close()
            return False
        tail_at, head_at = (self._layout.tails >> 3) + rank, (self._layout.heads >> 3) + self._peer
        self._ring, self._link = ring.map, link
        self._writer = RingWriter(ring.map, home, own, tail_at=tail_at, head_at=head_at)
        ring.close_descriptor()  # nobody else needs it
        return True

    def share(self, number: int) -> bool:
        """See to it that the peer has a segment of this worker; False: not now."""
        if number in self._shared:
            return True
        segment = self._pool.segments[number]
        if not self._sender.send(self._link, SEGMENT, (segment.fd,), number, segment.size):
            return False
        self._shared.add(number)
        return True

    def close(self) -> None:
        """The peer is gone, or this worker goes: take back what it had."""
        while self._held:
            self._take_back(self._held.popleft())
        self.part()

    def part(self) -> None:
        """Nothing is sent any more; what the peer holds is taken back by :meth:`sweep`."""
        self._drops.clear()
        if self._ring is not None:
            self._ring.close()
            self._ring = self._writer = None

    @property
    def state(self) -> str:
        """What is under way, in words."""
        if self._writer is None:
            return "no ring to it"
        return f"{self._writer.state}, {len(self._held)} frames in its hands"

    # -- messages ------------------------------------------------------------------------------------------------------

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Write a message; False when it was refused.

        :raises NetworkError: too little memory.
        """
        writer = self._writer
        assert writer is not None
        if self._drops and not self._tell_drops():
            return False
        parts: list[Buffer] = []
        lengths: list[int] = []
        total, far = 8 + 8 * len(frames), False
        for frame in frames:
            if type(frame) is not bytes:
                frame = flat(frame)
            size = len(frame)
            if size >= self._inline:
                far = True
                break
            lengths.append(size)
            parts += (frame, PADDING[size & 7])
            total += size + (-size & 7)
        if far or total > self._record:
            return self._send_far([flat(frame) for frame in frames])
        if not writer.room(total):
            return False
        count = len(lengths)
        writer.put(b"".join((words(count + 1).pack(total | count << 32, *lengths), *parts)))
        return True

    def _send_far(self, frames: list[memoryview]) -> bool:
        writer = self._writer
        assert writer is not None
        entries: list[tuple[int, Block]] = []
        sealed = False
        try:
            described: list[int] = []
            parts: list[Buffer] = []
            size = 8
            for frame in frames:
                n_bytes = frame.nbytes
                if n_bytes < self._inline or len(entries) == self._most_frames:
                    described.append(n_bytes)
                    parts += (frame, PADDING[n_bytes & 7])
                    size += 8 + n_bytes + (-n_bytes & 7)
                    continue
                there = self._place(frame, n_bytes, entries)
                if there is None:
                    return False
                described += (n_bytes | FAR, *there)
                size += 24
            flags = len(frames) << 32
            body = words(len(described)).pack(*described)
            if size <= self._record:
                record = b"".join((words(1).pack(size | flags), body, *parts))
            else:
                whole = memoryview(b"".join((body, *parts)))
                there = self._place(whole, whole.nbytes, entries)
                if there is None:
                    return False
                record = words(4).pack(32 | flags | BODY, whole.nbytes | FAR, *there)
            if not writer.room(len(record)):
                return False
            writer.put(record)
            self._held.extend(entries)
            self._held_bytes += sum(block.size for _, block in entries)
            sealed = True
            return True
        finally:
            if not sealed:
                for slot, block in entries:
                    self._slots.give_back(slot)
                    self._pool.give_back(block)

    def _place(self, frame: memoryview, n_bytes: int, entries: list[tuple[int, Block]]) -> tuple[int, int] | None:
        """Bring a frame into a segment that the peer has: (segment and slot, place)."""
        found = self._pool.find(frame)
        if found is not None:
            block, place = found
            if not self._has_slot(len(entries)) or not self.share(block.segment):
                return None
            block.users += 1
        else:
            if not self._may_take(n_bytes, entries):
                return None
            block = self._pool.take(n_bytes)
            place = block.place
            if not self.share(block.segment):
                self._pool.give_back(block)
                return None
        slot = self._slots.take()
        if slot < 0:
            self._pool.give_back(block)
            return None
        entries.append((slot, block))
        if found is None:
            self._pool.view(block)[place : place + n_bytes] = frame
            publish()
        return block.segment << 32 | slot, place

    def _may_take(self, n_bytes: int, entries: list[tuple[int, Block]]) -> bool:
        """Whether so much more may lie with the peer: its share of the pool, or one message if it has read all else."""
        if not self._has_slot(len(entries)):
            return False
        held = self._held
        taken = self._held_bytes + sum(block.size for _, block in entries)
        if taken + n_bytes <= self._quota and len(held) < _SWEEP:
            return True
        self.sweep()
        taken = self._held_bytes + sum(block.size for _, block in entries)
        assert self._writer is not None
        return taken + n_bytes <= self._quota or self._writer.taken

    def _has_slot(self, more: int) -> bool:
        """Whether one more frame than ``more`` may be with the peer: a share of the slots, so that all have some."""
        held, share = self._held, self._layout.share
        while held and not self._slots.held(held[0][0]):
            self._take_back(held.popleft())
        return len(held) + more < share or self.sweep() + more < share

    def sweep(self) -> int:
        """Take back every block that the peer has let go; how many it still has."""
        for _ in range(len(self._held)):
            entry = self._held.popleft()
            if self._slots.held(entry[0]):
                self._held.append(entry)
            else:
                self._take_back(entry)
        return len(self._held)

    def _take_back(self, entry: tuple[int, Block]) -> None:
        slot, block = entry
        self._held_bytes -= block.size
        self._slots.give_back(slot)
        self._pool.give_back(block)

    def drop(self, number: int) -> None:
        """The segment is used no more: tell the peer, as soon as the ring has room."""
        if number in self._shared:
            self._shared.discard(number)
            self._drops.append(number)
            self._tell_drops()

    def _tell_drops(self) -> bool:
        while self._drops:
            if self._writer is None or not self._writer.room(16):
                return False
            self._writer.put(words(2).pack(16 | DROP, self._drops.popleft()))
        return True
