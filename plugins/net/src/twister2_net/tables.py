"""Tables of keyed operators: pairs on the way, NaN as a key, the size of a table, the loop that combines."""

from __future__ import annotations

import operator
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from twister2.spec.batch import n_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twister2.spec.memory import Reservation
    from twister2_net.reducers import Reducer

Table = dict[Any, Any]

_CHECK_EVERY = 1 << 12
"""Keys a table grows by before its size is looked at."""


class _Nan:
    """Stands for NaN as a key on the way: NaN is not even equal to itself, and all NaNs are one key here, the last in
    order.
    """

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return other is not self

    def __reduce__(self) -> str:
        return "NAN"


NAN: Final = _Nan()
WITHOUT_NAN: Final = frozenset({str, bytes, int, bool, type(None)})
"""Simple types of keys that have a hash and no NaN."""


class KeyValues:
    """Pairs in two lists, which pickle faster than tuples. Internal to these operators."""

    __slots__ = ("keys", "values")

    def __init__(self, keys: list[Any], values: list[Any]) -> None:
        self.keys = keys
        self.values = values

    def __len__(self) -> int:
        return len(self.keys)

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyValues, (self.keys, self.values)


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


def merge_pairs(table: Table, pairs: Iterable[tuple[Any, Any]], reducer: Reducer) -> None:
    """Combine pairs into a table."""
    if reducer is operator.add:
        for key, value in pairs:
            if key in table:
                table[key] = table[key] + value
            else:
                table[key] = value
        return
    for key, value in pairs:
        if key in table:
            table[key] = reducer(table[key], value)
        else:
            table[key] = value
