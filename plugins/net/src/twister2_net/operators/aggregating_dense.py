"""Aggregates by integer keys that lie close together: an array has a place for each key, and is filled in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXACT = 1 << 53
"""Integers below this are floats of 64 bits without loss."""
_MOST = 1 << 24
"""Places of an array, at most,"""
_PER_ROW = 2
"""and for each row."""

Asked = tuple[str, str | None, str]
"""Name of a result, the column that it is made of (None: the rows), and sum, min, max or count."""


def grouped(table: Any, asked: Sequence[Asked]) -> Any:
    """The keys of a table, in order, with what was asked for; None where keys or values are not such.

    :param table: its only key column is ``k0``.
    """
    import numpy
    import pyarrow

    keys = _whole(table.column("k0"))
    if keys is None or keys.dtype.kind != "i" or not len(keys):
        return None
    low = int(keys.min())
    span = int(keys.max()) - low + 1
    if span > min(_MOST, max(_PER_ROW * len(keys), 1 << 12)):
        return None
    values = {name: _whole(table.column(name)) for _, name, _ in asked if name is not None}
    if any(one is None for one in values.values()):
        return None
    places = keys.astype(numpy.int64)
    places -= low
    counts = numpy.bincount(places, minlength=span)
    there = numpy.flatnonzero(counts)
    columns = {"k0": pyarrow.array(there + low).cast(table.column("k0").type)}
    for result, name, function in asked:
        if function == "count":
            columns[result] = pyarrow.array(counts[there])
            continue
        found = _made(function, places, values[name or ""], span)
        if found is None:
            return None
        columns[result] = pyarrow.array(found[there])
    return pyarrow.table(columns)


def _whole(column: Any) -> Any:
    """A column of signed integers or floats without nulls as an array; None for others."""
    from pyarrow import types

    kind = column.type
    if column.null_count or not (types.is_signed_integer(kind) or types.is_float32(kind) or types.is_float64(kind)):
        return None
    return column.to_numpy()


def _made(function: str, places: Any, values: Any, span: int) -> Any:
    import numpy

    if function == "sum":
        if values.dtype.kind == "f":
            return numpy.bincount(places, weights=values, minlength=span)
        most = max(abs(int(values.min())), abs(int(values.max())))
        if most * len(values) >= _EXACT:
            return None
        return numpy.bincount(places, weights=values, minlength=span).astype(numpy.int64)
    if values.dtype.kind == "f":
        found = numpy.full(span, numpy.inf if function == "min" else -numpy.inf, values.dtype)
    else:
        limits = numpy.iinfo(values.dtype)
        found = numpy.full(span, limits.max if function == "min" else limits.min, values.dtype)
    (numpy.minimum if function == "min" else numpy.maximum).at(found, places, values)
    return found
