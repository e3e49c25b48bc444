"""By hash of one key or several, for records and for columns, without a Python object per row where possible.

With one key column the targets are those of :class:`~twister2_net.selectors.hashing.Hash`. With several, or one of
times in Arrow, hashes of columns are mixed, and a row's target is this selector's own. Null has one hash in columns of
all types: a worker that has nothing but nulls there may have them in a column of the type null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.array_hashing import can_hash, stable_hashes, tasks_of_array
from twister2.spec.batch import Batch, is_arrow
from twister2.spec.errors import KeyHashError
from twister2.spec.hashing import N_KEY_GROUPS, stable_hash
from twister2_net.selectors.base import Selector
from twister2_net.selectors.hashing import Hash
from twister2_net.spilling.key_words import words_of
from twister2_net.spilling.row_columns import RowColumns
from twister2_net.spilling.sorted_columns import described, unusable_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2_net.spilling.record_order import RecordOrder

_FACTOR = 0x9E3779B97F4A7C15
_PLACE = 0x5851F42D4C957F2D
_NULL = stable_hash(None)


class RowHash(Selector):
    """By the keys of a :class:`~twister2_net.spilling.record_order.RecordOrder`."""

    def __init__(self, n: int, label: str, task: int, order: RecordOrder) -> None:
        super().__init__(n, label, task)
        self._columns = RowColumns(order)
        self._names = tuple(name for name in order.columns if name)
        self._by_record = Hash(n, label, task, order.key_of)
        self._by_column = Hash(n, label, task, None, self._names)

    def assign(self, batch: Batch) -> Sequence[int]:
        if isinstance(batch, list):
            return self._by_record.assign(batch)
        columns = self._columns.of(batch)
        if len(columns) == 1 and not self._is_time(batch):
            column = columns[0][0]
            if not hasattr(column, "to_pylist") and column.ndim == 1 and can_hash(column.dtype):
                return tasks_of_array(column, self.n)  # type: ignore[no-any-return]
            if is_arrow(batch):
                return self._by_column.assign(batch)
        import numpy

        mixed = numpy.zeros(len(batch), numpy.uint64)
        for number, (column, _) in enumerate(columns):
            hashes = self._hashes(column, batch, number)
            mixed = _mix(mixed) ^ hashes if number else hashes
        groups = (mixed & numpy.uint64(N_KEY_GROUPS - 1)).astype(numpy.int64)
        found: Any = groups * self.n // N_KEY_GROUPS
        return found  # type: ignore[no-any-return]

    def _is_time(self, batch: Batch) -> bool:
        """Whether the only key column of an Arrow batch is one of times: hashed as numbers, with nulls or without."""
        if not is_arrow(batch):
            return False
        from pyarrow import types

        kind = batch.schema.field(self._names[0] if self._names else 0).type
        return bool(types.is_temporal(kind) or (types.is_dictionary(kind) and types.is_temporal(kind.value_type)))

    def _hashes(self, column: Any, batch: Batch, number: int) -> Any:
        """A hash of 64 bits for each row of a column; equal values have equal ones."""
        import numpy

        if hasattr(column, "to_pylist"):
            return self._hashes_of_arrow(column, batch, number)
        if column.ndim == 1 and can_hash(column.dtype):
            return stable_hashes(column)
        found = numpy.zeros(len(column), numpy.uint64)
        for place, word in enumerate(words_of(column) or ()):
            # text is filled up with zeros: those do not count
            some = _mix(word.astype(numpy.uint64) + numpy.uint64(place * _PLACE & (2**64 - 1)))
            found ^= numpy.where(word == 0, numpy.uint64(0), some)
        return found

    def _hashes_of_arrow(self, column: Any, batch: Batch, number: int) -> Any:
        import numpy
        import pyarrow
        from pyarrow import types

        if types.is_integer(column.type) or types.is_floating(column.type):
            null = column.is_null().to_numpy(zero_copy_only=False)
            found = stable_hashes(column.fill_null(0).to_numpy(zero_copy_only=False))
            found[null] = numpy.uint64(_NULL)
            return found
        try:
            encoded = column.dictionary_encode("encode")
            hashes = numpy.array([stable_hash(value) for value in encoded.dictionary.to_pylist()], numpy.uint64)
        except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowInvalid, KeyHashError) as error:
            name = (self._names or batch.schema.names)[number]
            raise unusable_keys(self.label, "compare rows", described(batch, [name]), error) from error
        return hashes[encoded.indices.to_numpy(zero_copy_only=False)]


def _mix(hashes: Any) -> Any:
    """The finalizer of splitmix64 (S. Vigna, public domain)."""
    import numpy

    mixed = hashes + numpy.uint64(_FACTOR)
    mixed = (mixed ^ (mixed >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> numpy.uint64(31))
