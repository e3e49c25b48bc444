"""Pairs on the way between workers, and the loop that combines them."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import is_array, is_arrow, n_bytes, python_values
from twister2.spec.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twister2.spec.batch import Batch
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


def is_pair(record: Any) -> bool:
    """Whether a record is a key and a value."""
    return isinstance(record, (tuple, list)) and len(record) == 2


def records_of(batch: Batch, label: str) -> list[Any]:
    """The records of a batch as Python objects that should be pairs: rows of an array, rows of two Arrow columns.

    :raises OperatorError: an Arrow batch has not two columns.
    """
    if is_arrow(batch):
        if batch.num_columns != 2:
            raise OperatorError(
                f"{label} cannot make pairs of an Arrow batch with the columns {', '.join(batch.schema.names)}",
                why="pairs are made of a key column and a value column",
                remedy="select two columns first",
                where=label,
            )
        return list(zip(python_values(batch.column(0)), python_values(batch.column(1)), strict=True))
    if is_array(batch):
        return batch.tolist()  # type: ignore[no-any-return]
    return batch  # type: ignore[no-any-return]
