"""The size of a growing table, told to the memory budget as it grows."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING

from twister2.spec.batch import n_bytes

if TYPE_CHECKING:
    from twister2.spec.memory import Reservation
    from twister2_net.combining.pairs import Table

_CHECK_EVERY = 1 << 12
"""Keys a table grows by before its size is looked at."""


class Pace:
    """How often a growing table is looked at: rarely, but before what is new can be much of the memory budget.

    :param budget: bytes, 0 for any.
    """

    __slots__ = ("_every", "_share", "_since")

    def __init__(self, budget: int) -> None:
        self._share = budget // 16
        self._since = 0
        self._every = min(_CHECK_EVERY, max(16, self._share // 256)) if budget else _CHECK_EVERY

    def due(self, count: int) -> bool:
        """So many are new: whether to look at the table now."""
        self._since += count
        return self._since >= self._every

    def seen(self, size: int, count: int) -> None:
        """A table of ``count`` keys has ``size`` bytes."""
        self._since = 0
        if self._share and count:
            self._every = min(_CHECK_EVERY, max(16, self._share * count // max(1, size)))


class SizedTable:
    """A table's reservation: told its estimated size as it grows."""

    __slots__ = ("_pace", "_reservation", "_seen")

    def __init__(self, reservation: Reservation, budget: int = 0) -> None:
        self._reservation = reservation
        self._pace = Pace(budget)
        self._seen = 0

    def grown(self, table: Table) -> None:
        """Look at the size again when the table has grown much."""
        count = len(table)
        if self._pace.due(count - self._seen):
            size = table_bytes(table)
            self._pace.seen(size, count)
            self._reservation.resize(size)
        self._seen = count

    @property
    def bytes(self) -> int:
        """The size last told."""
        return self._reservation.size

    def cleared(self) -> None:
        """The table was emptied."""
        self._seen = 0
        if self._reservation.size:
            self._reservation.resize(0)

    def release(self) -> None:
        """Give everything back."""
        self._reservation.release()


def table_bytes(table: Table) -> int:
    """Bytes of a dict with its keys and values, estimated from 64 of them."""
    size = sys.getsizeof(table)
    sample = list(islice(table.items(), 64))
    if sample:
        parts = sum(n_bytes([part for pair in some for part in pair]) for some in (sample[:16], sample[16:]))
        size += len(table) * parts // len(sample)
    return size
