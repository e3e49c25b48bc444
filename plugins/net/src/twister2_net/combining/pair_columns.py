"""Pairs that are columns of numbers, combined by key without a loop per record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORTH = 64
"""Records from which on it is worth while."""

_LARGEST = 1 << 62
"""Sums of integers stay below this, or are made by Python, whose integers have no end."""


def columns_of(batch: Batch) -> tuple[Any, Any] | None:
    """Keys and values of a batch of two columns of integers or floats, or None."""
    if is_array(batch):
        names = batch.dtype.names
        if names is not None and len(names) == 2:
            keys, values = batch[names[0]], batch[names[1]]
        elif names is None and batch.ndim == 2 and batch.shape[1] == 2:
            keys, values = batch[:, 0], batch[:, 1]
        else:
            return None
    elif is_arrow(batch) and batch.num_columns == 2:
        import pyarrow

        both = []
        for column in batch.columns:
            whole = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
            kind = whole.type
            if whole.null_count or not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)):
                return None
            both.append(whole.to_numpy(zero_copy_only=False))
        keys, values = both
    else:
        return None
    plain = keys.ndim == values.ndim == 1 and keys.dtype.kind in "iuf" and values.dtype.kind in "iuf"
    return (keys, values) if plain else None


def combined(batch: Batch, ufunc: Any, name: str) -> Iterable[tuple[Any, Any]] | None:
    """The pairs of a batch with the values of equal keys combined, as Python numbers.

    None for what must be combined one by one: other forms, small batches, integers whose result may not fit 64 bits.

    :param ufunc: the reducer as a numpy function. :param name: its name.
    """
    columns = columns_of(batch) if len(batch) >= _WORTH else None
    if columns is None:
        return None
    import numpy

    keys, values = columns
    if values.dtype.kind == "f":
        if values.dtype.itemsize < 8:
            values = values.astype(numpy.float64)
        if name not in ("sum", "prod"):
            return None  # numpy's and Python's comparisons differ for NaN
    elif name == "sum":
        most = max(abs(int(values.min())), abs(int(values.max())))
        if most * len(values) >= _LARGEST:
            return None
        values = values.astype(numpy.int64)
    elif name not in ("min", "max"):
        return None
    order = numpy.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = numpy.flatnonzero(numpy.concatenate(([True], ordered[1:] != ordered[:-1])))
    results = ufunc.reduceat(values[order], starts)
    return zip(ordered[starts].tolist(), results.tolist(), strict=True)
