"""By hash of one key or several, for records and for columns, without a Python object per row where possible.

With one key column the targets are those of :class:`~twister2_net.selectors.hashing.Hash`. With several, the hashes of
columns are mixed, and a row's target is this selector's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.array_hashing import can_hash, stable_hashes, tasks_of_array
from twister2.spec.batch import Batch, is_arrow, records
from twister2.spec.hashing import N_KEY_GROUPS, stable_hash
from twister2_net.problems import no_hash
from twister2_net.selectors.base import Selector
from twister2_net.selectors.hashing import Hash
from twister2_net.spilling.key_words import words_of
from twister2_net.spilling.row_columns import RowColumns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2_net.spilling.record_order import RecordOrder

_FACTOR = 0x9E3779B97F4A7C15
_NULL = 0x5851F42D4C957F2D


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
        if len(columns) == 1:
            column = columns[0][0]
            if not hasattr(column, "to_pylist") and column.ndim == 1 and can_hash(column.dtype):
                return tasks_of_array(column, self.n)  # type: ignore[no-any-return]
            if is_arrow(batch):
                return self._by_column.assign(batch)
        import numpy

        mixed = numpy.zeros(len(batch), numpy.uint64)
        for column, _ in columns:
            mixed = _mix(mixed) ^ self._hashes(column, batch)
        groups = (mixed & numpy.uint64(N_KEY_GROUPS - 1)).astype(numpy.int64)
        found: Any = groups * self.n // N_KEY_GROUPS
        return found  # type: ignore[no-any-return]

    def _hashes(self, column: Any, batch: Batch) -> Any:
        """A hash of 64 bits for each row of a column; equal values have equal ones."""
        import numpy

        if hasattr(column, "to_pylist"):
            return self._hashes_of_arrow(column, batch)
        if column.ndim == 1 and can_hash(column.dtype):
            return stable_hashes(column)
        found = numpy.zeros(len(column), numpy.uint64)
        for place, word in enumerate(words_of(column) or ()):
            # text is filled up with zeros: those do not count
            some = _mix(word.astype(numpy.uint64) + numpy.uint64(place * _NULL & (2**64 - 1)))
            found ^= numpy.where(word == 0, numpy.uint64(0), some)
        return found

    def _hashes_of_arrow(self, column: Any, batch: Batch) -> Any:
        import numpy
        from pyarrow import types

        if types.is_integer(column.type) or types.is_floating(column.type):
            null = column.is_null().to_numpy(zero_copy_only=False)
            found = stable_hashes(column.fill_null(0).to_numpy(zero_copy_only=False))
            found[null] = numpy.uint64(_NULL)
            return found
        encoded = column.dictionary_encode("encode")
        values = encoded.dictionary.to_pylist()
        try:
            hashes = numpy.array([stable_hash(value) for value in values], numpy.uint64)
        except TypeError as error:
            raise no_hash(self.label, self.task, next(iter(records(batch[:1])), None), error) from error
        return hashes[encoded.indices.to_numpy(zero_copy_only=False)]


def _mix(hashes: Any) -> Any:
    """The finalizer of splitmix64 (S. Vigna, public domain)."""
    import numpy

    mixed = hashes + numpy.uint64(_FACTOR)
    mixed = (mixed ^ (mixed >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> numpy.uint64(31))
