"""Where large parts stay that come in: memory that is used again once nobody has a view of it.

A page that a process is given for the first time costs more than what is copied into it, and malloc gives the free end
of its heap back to the system: message after message would find new pages.
"""

from __future__ import annotations

import weakref
from typing import Any, Final

import numpy as np

_LEAST: Final = 32 << 10
_MOST: Final = 4 << 20
"""Bytes of parts that lie here. Of larger ones the pages are larger, too, and few."""
_KEPT: Final = 4 << 20
"""Bytes that are kept for the parts of each power of two."""


class Memory:
    """Memory for parts, by powers of two. What became free last is used first: it may still be in the cache."""

    def __init__(self) -> None:
        self._free: dict[int, list[memoryview]] = {}
        self._lent: dict[int, tuple[weakref.ref[Any], memoryview]] = {}

    def take(self, size: int) -> memoryview:
        """Room for so many bytes, which is not used again while there is a view of it."""
        if not _LEAST <= size <= _MOST:
            return np.empty(size, np.uint8).data
        capacity = 1 << (size - 1).bit_length()
        free = self._free.get(capacity)
        room = free.pop() if free else np.empty(capacity, np.uint8).data
        array = np.frombuffer(room, np.uint8, size)  # every view refers to it, as its own base is no array
        watched = weakref.ref(array, self._back)
        self._lent[id(watched)] = watched, room
        return array.data

    def _back(self, watched: weakref.ref[Any]) -> None:
        """The last view has gone, in whatever thread."""
        _, room = self._lent.pop(id(watched))
        free = self._free.setdefault(len(room), [])
        if len(free) * len(room) < _KEPT:
            free.append(room)
