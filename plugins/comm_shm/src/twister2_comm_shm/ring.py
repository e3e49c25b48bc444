"""A ring of records in shared memory with one writer and one reader.

A record starts with one word: its length in the low half (a multiple of eight; zero: the rest of the ring is unused),
the number of frames and the flags in the high half. One or three words for each frame follow, then the frames that lie
in the record itself, padded to eight bytes::

    length                                  an inline frame
    length | FAR   segment << 32 | slot   place      a frame in a segment of the sender

Of a record with ``BODY`` everything after the first word lies in a segment, described as a far frame. A record with
``DROP`` has one word: the number of a segment that the reader may unmap.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING, Final

from twister2.spec.fence import publish

from .home import WORD

if TYPE_CHECKING:
    import mmap

FAR: Final = 1 << 63
BODY: Final = 1 << 63
DROP: Final = 1 << 62
N_FRAMES: Final = (1 << 30) - 1


@functools.lru_cache(maxsize=256)
def words(count: int) -> struct.Struct:
    """Packs ``count`` words."""
    return struct.Struct(f"@{count}Q")


class RingWriter:
    """The sender's side. ``home`` is the reader's home segment, ``own`` the sender's, as words.

    :param tail_at: word of the reader's home in which the sender says how much it has written.
    :param head_at: word of the sender's home in which the reader says how much it has taken.
    """

    def __init__(self, ring: mmap.mmap, home: memoryview, own: memoryview, *, tail_at: int, head_at: int) -> None:
        self._ring, self._home, self._own = ring, home, own
        self._size = len(ring)
        self._tail_at, self._head_at = tail_at, head_at
        self._tail = self._head = 0

    @property
    def taken(self) -> bool:
        """Whether the reader has taken everything."""
        if self._head != self._tail:
            self._head = self._own[self._head_at]
        return self._head == self._tail

    @property
    def state(self) -> str:
        """How much was written and taken, in words."""
        return f"{self._tail} bytes written to its ring, {self._own[self._head_at]} of them taken there"

    def room(self, n_bytes: int) -> bool:
        """Whether a record of this length fits now."""
        at = self._tail % self._size
        needed = n_bytes if at + n_bytes <= self._size else n_bytes + self._size - at
        if self._tail - self._head + needed <= self._size:
            return True
        self._head = self._own[self._head_at]
        return bool(self._tail - self._head + needed <= self._size)

    def put(self, record: bytes) -> None:
        """Write a record for which there is :meth:`room`."""
        at, n_bytes = self._tail % self._size, len(record)
        if at + n_bytes > self._size:
            WORD.pack_into(self._ring, at, 0)
            self._tail += self._size - at
            at = 0
        self._ring[at : at + n_bytes] = record
        self._tail += n_bytes
        publish()
        self._home[self._tail_at] = self._tail


class RingReader:
    """The receiver's side.

    :ivar tail: what the writer has said last, read by the owner of the home segment.
    :param home: the sender's home segment as words. :param head_at: word in it that says how much was taken.
    """

    def __init__(self, ring: mmap.mmap, home: memoryview, head_at: int) -> None:
        self._ring, self._home, self._head_at = ring, home, head_at
        self._size = len(ring)
        self.head = self.tail = 0

    def get(self) -> bytes | None:
        """Copy the oldest record out; None when there is none."""
        while self.head != self.tail:
            at = self.head % self._size
            n_bytes = WORD.unpack_from(self._ring, at)[0] & 0xFFFFFFFF
            if n_bytes:
                record = self._ring[at : at + n_bytes]
                self.head += n_bytes
                publish()
                self._home[self._head_at] = self.head
                return record
            self.head += self._size - at
        return None
