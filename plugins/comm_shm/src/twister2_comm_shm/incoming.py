"""What comes from one peer: records out of the ring, and leases on the memory in which its large frames lie."""

from __future__ import annotations

import collections
import ctypes
import os
import weakref
from typing import TYPE_CHECKING, Any, Final

from twister2.spec.errors import NetworkError

from .ring import BODY, DROP, FAR, N_FRAMES, RingReader, words

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from .home import Layout

_WORD: Final = words(1)
_TYPES_KEPT: Final = 512
_types: dict[int, Any] = {}


class _Lease(weakref.ref[Any]):
    """Knows which slot to clear when the views of a frame have died."""

    __slots__ = ("at", "home", "owner", "size")
    at: int
    home: mmap.mmap
    owner: Incoming
    size: int


def _ended(lease: weakref.ref[Any]) -> None:
    # any thread: nothing here needs more than one operation on each object
    assert isinstance(lease, _Lease)
    owner = lease.owner
    if owner.pid != os.getpid():
        return  # a process that the program forked let its copy go: the worker still has the frame
    owner.leases.pop(lease.at, None)
    owner.ended.append(lease.size)
    try:
        lease.home[lease.at] = 0
    except ValueError:
        return  # closed meanwhile


class Incoming:
    """Messages of one peer.

    :param home: the peer's home segment. :param layout: of its home segment. :param quota: the most it puts into
        large frames before it waits for them to come back.
    :param segment: gives the peer's segment of a number, reading notes of the peer.
    """

    def __init__(
        self,
        peer: int,
        reader: RingReader,
        ring: mmap.mmap,
        home: mmap.mmap,
        *,
        layout: Layout,
        quota: int,
        segment: Callable[[int], mmap.mmap | None],
        unmap: Callable[[int], None],
    ) -> None:
        self._peer, self.reader, self._ring, self._home = peer, reader, ring, home
        self._slots, self._segment, self._unmap = layout.slots, segment, unmap
        self._most, self._most_leases = quota // 2, layout.share // 2
        self.pid = os.getpid()
        self._held = 0
        self.leases: dict[int, _Lease] = {}
        self.ended: collections.deque[int] = collections.deque()
        self.queued = False

    def get(self) -> tuple[memoryview, ...] | None:
        """The frames of the next message; None when there is none.

        :raises NetworkError: what lies in the ring is no message.
        """
        while True:
            record = self.reader.get()
            if record is None:
                return None
            (first,) = _WORD.unpack_from(record)
            if first & DROP:
                self._unmap(words(2).unpack(record)[1])
                continue
            count = first >> 32 & N_FRAMES
            body, at = memoryview(record), 8
            if first & BODY:
                _, size, place, start = words(4).unpack(record)
                body, at = self._far(size ^ FAR, place, start), 0
            return self._frames(body, at, count)

    def close(self) -> None:
        """Forget the ring; leases stay what they are."""
        self._ring.close()

    def _frames(self, body: memoryview, at: int, count: int) -> tuple[memoryview, ...]:
        described: list[tuple[int, int, int]] = []
        for _ in range(count):
            (size,) = _WORD.unpack_from(body, at)
            at += 8
            if size & FAR:
                described.append((size, *words(2).unpack_from(body, at)))
                at += 16
            else:
                described.append((size, 0, 0))
        frames: list[memoryview] = []
        for size, place, start in described:
            if size & FAR:
                frames.append(self._far(size ^ FAR, place, start))
            else:
                frames.append(body[at : at + size])
                at += size + (-size & 7)
        return tuple(frames)

    def _far(self, size: int, place: int, start: int) -> memoryview:
        number, at = place >> 32, self._slots + (place & 0xFFFFFFFF)
        mapped = self._segment(number)
        if mapped is None or start + size > len(mapped):
            raise NetworkError(
                f"a message from worker {self._peer} lies in memory that this worker does not have",
                why=f"its segment {number} was not passed on, or is smaller than {start + size} bytes",
                remedy="start the job again; see that all workers have the same version of twister2-comm-shm",
            )
        while self.ended:
            self._held -= self.ended.popleft()
        if self._held and (self._held + size > self._most or len(self.leases) >= self._most_leases):
            # who holds much gets copies, so that the sender always gets memory back
            copy = memoryview(mapped[start : start + size])
            self._home[at] = 0
            return copy
        whole = _array(size, len(mapped) - start).from_buffer(mapped, start)
        lease = _Lease(whole, _ended)
        lease.at, lease.home, lease.owner, lease.size = at, self._home, self, size
        self.leases[at] = lease
        self._held += size
        return memoryview(whole).cast("B")[:size].toreadonly()


def _array(size: int, there: int) -> Any:
    """A type of at least ``size`` bytes; few different ones, since making one takes longer than sending."""
    rounded = 1 << (size - 1).bit_length()
    n_bytes = rounded if rounded <= there else size
    found = _types.get(n_bytes)
    if found is None:
        if len(_types) >= _TYPES_KEPT:
            _types.clear()
        found = _types[n_bytes] = ctypes.c_char * n_bytes
    return found
