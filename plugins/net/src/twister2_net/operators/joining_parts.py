"""Both sides of a large join, cut by key into parts that are joined one by one.

The hash table of millions of rows is read and written all over memory; those of parts stay in the processor's cache,
and only one part at a time is there twice.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PART_ROWS = 1 << 17
"""Rows of both sides in a part, about."""
_MOST = 8
"""Logarithm of the most parts: numpy sorts numbers of 8 bits by counting them."""
_CHUNK = 1 << 14
"""Rows looked at at once: what is in between stays in the cache."""
_SCATTER = 0x9E3779B97F4A7C15


def cut(left: Sequence[Any], right: Sequence[Any]) -> list[tuple[Any, Any]] | None:
    """Row numbers of both sides by parts, ascending in each; rows with equal keys are in parts of one number.

    :param left, right: key columns of equal types, without nulls and NaN, zeros without sign.
    :returns: None where one part does: of few rows, or of keys that are neither integers nor floats.
    """
    count = len(left[0]) + len(right[0])
    bits = min(_MOST, (count // PART_ROWS).bit_length())
    if not bits:
        return None
    if not any(map(_is_number, left)):
        return None
    return list(zip(_rows_of_parts(left, bits), _rows_of_parts(right, bits), strict=True))


def _is_number(column: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(column.type) or types.is_floating(column.type))


def _rows_of_parts(columns: Sequence[Any], bits: int) -> list[Any]:
    import numpy

    values = [column.to_numpy() for column in columns if _is_number(column)]
    count = len(values[0])
    parts = numpy.empty(count, numpy.uint8)
    sizes = numpy.zeros(1 << bits, numpy.int64)
    for start in range(0, count, _CHUNK):
        some = _numbers([column[start : start + _CHUNK] for column in values]) >> numpy.uint64(64 - bits)
        parts[start : start + _CHUNK] = some
        sizes += numpy.bincount(some.view(numpy.int64), minlength=1 << bits)
    return numpy.split(numpy.argsort(parts, kind="stable"), numpy.cumsum(sizes)[:-1])


def _numbers(columns: Sequence[Any]) -> Any:
    """A scattered number of 64 bits for each row."""
    import numpy

    mixed: Any = None
    for column in columns:
        if column.dtype.kind == "f":
            numbers = column.astype(numpy.float64).view(numpy.uint64)
            numbers ^= numbers >> numpy.uint64(32)  # round numbers differ in high bits only
        else:
            numbers = column.astype(numpy.uint64)
        if mixed is not None:
            numbers ^= mixed
        numbers *= numpy.uint64(_SCATTER)
        mixed = numbers
    return mixed


def in_threads(work: Callable[[Any], Any], parts: Sequence[Any]) -> Iterator[Any]:
    """What becomes of each part, in order, made by as many threads as pyarrow may have; a few parts ahead at most."""
    import pyarrow

    threads = min(pyarrow.cpu_count(), len(parts))
    if threads < 2:
        yield from map(work, parts)
        return
    ahead: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for part in parts:
            ahead.append(pool.submit(work, part))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
