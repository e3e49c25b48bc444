"""The keys of numpy arrays and Arrow batches, without a Python object per record where possible."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from twister2.spec.array_hashing import can_hash
from twister2.spec.batch import is_array, is_arrow
from twister2_net.problems import no_column
from twister2_net.spilling.key_words import order_of, words_of
from twister2_net.spilling.sorted_columns import TICKS, codes, flat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from twister2.spec.batch import Batch

PAIR_KEY = itemgetter(0)
"""The key of a (key, value) pair."""


def by_columns(batch: Batch, key: Callable[[Any], Any] | None, columns: Sequence[str]) -> bool:
    """Whether a batch is an Arrow batch whose keys are those of columns, the first one when none is named; a function
    of the user's gets its rows.
    """
    return is_arrow(batch) and (bool(columns) or key is None or key is PAIR_KEY)


def arrow_keys(batch: Any, columns: Sequence[str], label: str) -> Iterable[Any]:
    """The values of the key columns of an Arrow batch, as tuples when there are several."""
    names = list(columns) or [batch.schema.names[0]]
    unknown = [name for name in names if name not in batch.schema.names]
    if unknown:
        raise no_column(label, unknown, batch.schema.names)
    values = [_values(batch.column(name)) for name in names]
    return values[0] if len(values) == 1 else zip(*values, strict=True)


def arrow_column(batch: Any, columns: Sequence[str], label: str) -> tuple[Any, Any]:
    """The keys of an Arrow batch: an array of numbers; or a list of keys, and the position of each record's key in it
    (None: in order).
    """
    names = list(columns) or list(batch.schema.names[:1])
    if len(names) != 1 or names[0] not in batch.schema.names:
        return list(arrow_keys(batch, columns, label)), None
    import pyarrow

    column = batch.column(names[0])
    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    if column.null_count == 0 and (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)):
        return column.to_numpy(zero_copy_only=False), None
    try:
        encoded = flat(column).dictionary_encode("encode")
    except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowInvalid):
        return _values(column), None  # of lists, structures and the like
    return _values(encoded.dictionary), encoded.indices.to_numpy(zero_copy_only=False)


def _values(column: Any) -> list[Any]:
    """The values of a column as Python objects whose hashes are equal where the values are."""
    import pyarrow

    kind = column.type
    unit, zone = getattr(kind, "unit", ""), getattr(kind, "tz", None)
    if unit == "ns" or zone is not None:
        # Python's times end at microseconds: what is cut off need not decide where a key goes. Nor does the zone.
        coarse = "us" if unit == "ns" else unit
        if pyarrow.types.is_timestamp(kind):
            column = column.cast(pyarrow.timestamp(coarse, zone and "UTC"), safe=False)
        else:
            other = pyarrow.duration(coarse) if pyarrow.types.is_duration(kind) else pyarrow.time64(coarse)
            column = column.cast(other, safe=False)
    try:
        found: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):  # times of years that Python does not know
        return [_value(one) for one in column]
    return found


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return scalar.value * TICKS.get(getattr(scalar.type, "unit", ""), 1)


def array_column(batch: Any, key: Callable[[Any], Any] | None, columns: Sequence[str], label: str) -> Any:
    """The keys of a numpy array as an array of numbers or a list; None when its records must be looked at one by one.

    Structured arrays are keyed by the named fields, or by their first one where records are pairs.
    """
    pairs = key is PAIR_KEY
    names = batch.dtype.names
    if names is not None and (columns or pairs):
        chosen = list(columns) or list(names[:1])
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise no_column(label, unknown, names)
        if len(chosen) > 1:
            return list(zip(*(batch[name].tolist() for name in chosen), strict=True))
        found = batch[chosen[0]]
        return found if can_hash(found.dtype) and found.ndim == 1 else found.tolist()
    if names is None and pairs and batch.ndim == 2 and batch.shape[1] and can_hash(batch.dtype):
        return batch[:, 0]
    if names is None and key is None and batch.ndim == 1 and can_hash(batch.dtype):
        return batch
    return None


def keys_of_columns(batch: Batch, columns: Sequence[str], label: str) -> Iterable[Any] | None:
    """The keys of an Arrow batch or a structured array by the names of columns, as Python objects; None where records
    must be looked at one by one.
    """
    if not columns or not (is_arrow(batch) or (is_array(batch) and batch.dtype.names)):
        return None
    if is_arrow(batch):
        return arrow_keys(batch, columns, label)
    found = array_column(batch, None, columns, label)
    return found if isinstance(found, list) else found.tolist()


def distinct_rows(batch: Any, columns: Sequence[str]) -> tuple[list[Any], Any] | None:
    """The different keys of several columns of a structured array or an Arrow batch, as tuples, and for each row the
    position of its key among them; None where rows must be looked at one by one.
    """
    names = batch.schema.names if is_arrow(batch) else batch.dtype.names if is_array(batch) else None
    if names is None or set(columns) - set(names):
        return None
    import numpy

    if is_arrow(batch):
        rows = _codes([batch.column(name) for name in columns])
        if rows is None:
            return None
        _, first, back = numpy.unique(rows, return_index=True, return_inverse=True)
        keys = zip(*(_values(batch.column(name).take(first)) for name in columns), strict=True)
        return list(keys), back
    words: list[Any] = []
    for name in columns:
        found = words_of(batch[name]) if batch[name].ndim == 1 else None
        if found is None:
            return None
        words += found
    order = order_of(words)
    new = numpy.zeros(len(order), bool)
    new[:1] = True
    for word in words:
        there = word[order]
        new[1:] |= there[1:] != there[:-1]
    back = numpy.empty(len(order), numpy.int64)
    back[order] = numpy.cumsum(new) - 1
    first = order[new]
    return list(zip(*(batch[name][first].tolist() for name in columns), strict=True)), back


def _codes(columns: Sequence[Any]) -> Any:
    """An integer per row; None for columns of lists, structures and the like, whose values Arrow does not compare."""
    import pyarrow

    try:
        return codes(columns)
    except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowInvalid):
        return None
