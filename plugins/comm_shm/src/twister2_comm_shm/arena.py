"""Blocks of one segment, used again and again: the first touch of new memory costs ten times as much as a copy."""

from __future__ import annotations

from typing import Final

SMALLEST: Final = 14
"""Logarithm of the smallest block."""


class Arena:
    """A buddy allocator of blocks of 2**k bytes. It knows places only, no memory.

    Blocks that come back are kept as they are, so that the one used last, still in the cache, is used next; they are
    joined only when no block is large enough.

    :param order: logarithm of the arena's size.
    """

    def __init__(self, order: int) -> None:
        self._order = order
        self._free: list[list[int]] = [[] for _ in range(order + 1)]
        self._free[order].append(0)
        self._taken: dict[int, int] = {}

    def take(self, n_bytes: int) -> int:
        """Place of a block of at least ``n_bytes``, or -1 when there is none."""
        order = max(SMALLEST, (n_bytes - 1).bit_length())
        if order > self._order:
            return -1
        place = self._split(order)
        if place < 0 and self._join():
            place = self._split(order)
        if place >= 0:
            self._taken[place] = order
        return place

    def give_back(self, place: int) -> None:
        """The block at ``place`` is free again."""
        self._free[self._taken.pop(place)].append(place)

    def _split(self, order: int) -> int:
        larger = order
        while not self._free[larger]:
            larger += 1
            if larger > self._order:
                return -1
        place = self._free[larger].pop()
        while larger > order:
            larger -= 1
            self._free[larger].append(place + (1 << larger))
        return place

    def _join(self) -> bool:
        joined = False
        for order in range(SMALLEST, self._order):
            places, size = set(self._free[order]), 1 << order
            for place in sorted(places):
                buddy = place ^ size
                if place < buddy and place in places and buddy in places:
                    places -= {place, buddy}
                    self._free[order + 1].append(place)
                    joined = True
            # low places first: memory that was never touched comes last
            self._free[order] = sorted(places, reverse=True)
        self._free[self._order].sort(reverse=True)
        return joined
