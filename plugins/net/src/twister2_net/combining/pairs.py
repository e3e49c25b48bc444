"""Pairs on the way between workers, and the loop that combines them."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import n_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twister2_net.combining.reducers import Reducer

Table = dict[Any, Any]


class KeyValues:
    """Pairs in two lists, which pickle faster than tuples. Internal to these operators."""

    __slots__ = ("keys", "values")

    def __init__(self, keys: list[Any], values: list[Any]) -> None:
        self.keys = keys
        self.values = values

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Size in memory, estimated."""
        return n_bytes(self.keys) + n_bytes(self.values)

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyValues, (self.keys, self.values)


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
