"""The memory that a worker sends from: blocks for large frames, and memory that programs asked for."""

from __future__ import annotations

import bisect
import collections
import ctypes
import weakref
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import NetworkError

from .arena import Arena
from .segment import Segment

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

_USER_MAX = 16
"""Memory for programs comes out of the arena up to this part of it."""


@attrs.define(eq=False)
class Block:
    """A piece of a segment. Free when no peer has a frame in it and the program has no view of it.

    :ivar users: frames under way or held, and 1 for the program's view.
    """

    segment: int
    place: int
    size: int
    users: int = 1


class Pool:
    """Blocks by segment. ``dropped`` is called with the number of a segment that is used no more."""

    def __init__(self, folder: str, arena_bytes: int, dropped: Callable[[int], None]) -> None:
        self._folder, self._dropped = folder, dropped
        self._order = (arena_bytes - 1).bit_length()
        self._arena = Arena(self._order)
        self._arena_segment = -1
        self.segments: dict[int, Segment] = {}
        self._next = 1
        self._idle: list[int] = []
        self._idle_bytes = 0
        self._user_bases: list[int] = []
        self._user_blocks: list[Block] = []
        self._user_refs: dict[int, weakref.ref[Any]] = {}
        self._unused: collections.deque[Block] = collections.deque()

    # -- blocks --------------------------------------------------------------------------------------------------------

    def take(self, n_bytes: int) -> Block:
        """A block of at least ``n_bytes``.

        :raises NetworkError: too little memory.
        """
        self._collect()
        place = self._arena.take(n_bytes)
        if place < 0:
            return self._alone(n_bytes)
        try:
            if self._arena_segment < 0:
                self._arena_segment = self.add(Segment(1 << self._order, self._folder, backed=False))
            self.segments[self._arena_segment].back(place, n_bytes)
        except NetworkError:
            self._arena.give_back(place)
            raise
        return Block(self._arena_segment, place, n_bytes)

    def give_back(self, block: Block) -> None:
        """One user less."""
        block.users -= 1
        if block.users:
            return
        if block.segment == self._arena_segment:
            self._arena.give_back(block.place)
            return
        segment = self.segments[block.segment]
        self._idle.append(block.segment)
        self._idle_bytes += segment.size
        while self._idle_bytes > 1 << self._order:
            oldest = self._idle.pop(0)
            self._idle_bytes -= self.segments[oldest].size
            self.remove(oldest)

    def view(self, block: Block) -> mmap.mmap:
        """The mapping in which the block lies."""
        return self.segments[block.segment].map

    def add(self, segment: Segment) -> int:
        """Number a segment, so that peers can be told of it."""
        number, self._next = self._next, self._next + 1
        self.segments[number] = segment
        return number

    def remove(self, number: int) -> None:
        """A segment is used no more."""
        self.segments.pop(number).close()
        self._dropped(number)

    def close(self) -> None:
        """Forget everything; views that programs or peers have stay as they are."""
        for segment in self.segments.values():
            segment.close()
        self.segments.clear()
        self._user_refs.clear()

    def _alone(self, n_bytes: int) -> Block:
        for number in reversed(self._idle):
            size = self.segments[number].size
            if n_bytes <= size <= 2 * n_bytes:
                self._idle.remove(number)
                self._idle_bytes -= size
                return Block(number, 0, n_bytes)
        number = self.add(Segment(n_bytes, self._folder))
        return Block(number, 0, n_bytes)

    # -- memory for programs -------------------------------------------------------------------------------------------

    def allocate(self, n_bytes: int) -> memoryview:
        """Memory for the program, given back when its last view dies.

        :raises NetworkError: too little memory.
        """
        self._collect()
        block = self.take(n_bytes) if n_bytes <= (1 << self._order) // _USER_MAX else self._alone(n_bytes)
        whole = (ctypes.c_char * n_bytes).from_buffer(self.view(block), block.place)
        base = ctypes.addressof(whole)
        at = bisect.bisect(self._user_bases, base)
        self._user_bases.insert(at, base)
        self._user_blocks.insert(at, block)
        unused = self._unused  # the callback may come in any thread: it only notes the fact
        self._user_refs[base] = weakref.ref(whole, lambda _: unused.append(block))
        return memoryview(whole).cast("B")

    def find(self, frame: memoryview) -> tuple[Block, int] | None:
        """The program's block in which ``frame`` lies, and where in the segment it starts."""
        if not self._user_bases:
            return None
        base = address(frame)
        at = bisect.bisect(self._user_bases, base) - 1
        if at < 0:
            return None
        block, offset = self._user_blocks[at], base - self._user_bases[at]
        if offset + frame.nbytes > block.size:
            return None
        return block, block.place + offset

    def _collect(self) -> None:
        """Take back what programs have let go."""
        while self._unused:
            self._forget(self._unused.popleft())

    def _forget(self, block: Block) -> None:
        at = self._user_blocks.index(block)
        del self._user_blocks[at]
        self._user_refs.pop(self._user_bases.pop(at))
        self.give_back(block)


class _PyBuffer(ctypes.Structure):
    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("rest", ctypes.c_char * 128),
    )


_get = ctypes.pythonapi.PyObject_GetBuffer
_get.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = (ctypes.POINTER(_PyBuffer),)
_release.restype = None


def address(view: memoryview) -> int:
    """Where the memory of a view starts; also of a read-only one, which ctypes itself would refuse."""
    buffer = _PyBuffer()
    _get(view, ctypes.byref(buffer), 0)
    try:
        return int(buffer.buf or 0)
    finally:
        _release(ctypes.byref(buffer))
