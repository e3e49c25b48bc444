"""Columns of keys as columns of integers that are ordered as the keys are: *words*, the most significant first.

Sorting, comparing and searching such words is done by numpy at once for all rows. NaN and NaT come last, also in
descending order; 0.0 and -0.0 are one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORD = 8
_MANY = 1 << 14
_LOOKS = 1 << 10


def words_of(column: Any, *, descending: bool = False) -> list[Any] | None:
    """The words of a column: arrays of integers that ascend where the keys ascend (or descend).

    :param column: a numpy array; one of several dimensions is ordered by its first column, then by its second...
    :returns: None for a dtype that has no such words: objects, complex numbers, long doubles, structures.
    """
    import numpy

    if column.ndim > 1:
        return _words_of_rows(column, descending)
    kind = column.dtype.kind
    if kind in "SU" or (kind == "V" and column.dtype.names is None and column.dtype.subdtype is None):
        words = _words_of_text(column)
        return [~word for word in words] if descending else words
    missing = None
    if kind == "b":
        word = column.astype(numpy.int8)
    elif kind in "iu":
        word = column if column.dtype.isnative else column.astype(column.dtype.newbyteorder("="))
    elif kind in "mM":
        word = column.astype(column.dtype.newbyteorder("=")).view(numpy.int64)
        missing = word == numpy.iinfo(numpy.int64).min
    elif kind == "f" and column.dtype.itemsize <= _WORD:
        word = _word_of_floats(column)
        missing = column != column
    else:
        return None
    if descending:
        word = ~word
    if missing is not None and missing.any():
        word[missing] = numpy.iinfo(word.dtype).max
    return [word]


def _word_of_floats(column: Any) -> Any:
    """Integers ordered as floats are: the bits of negative ones turned round."""
    import numpy

    floats = column.astype(numpy.float64 if column.dtype.itemsize > 4 else numpy.float32)
    floats += 0.0  # -0.0 becomes 0.0
    bits = floats.view(numpy.int64 if floats.dtype.itemsize == _WORD else numpy.int32)
    return numpy.where(bits < 0, bits ^ numpy.iinfo(bits.dtype).max, bits)


def _words_of_text(column: Any) -> list[Any]:
    """Text and bytes of fixed width, cut into unsigned integers of 64 bits."""
    import numpy

    rows = len(column)
    plain = numpy.ascontiguousarray(column)
    width = plain.dtype.itemsize
    if not width:
        return [numpy.zeros(rows, numpy.uint64)]
    units = plain.view(numpy.uint8).reshape(rows, width)
    if plain.dtype.kind == "U":
        points = plain.astype(plain.dtype.newbyteorder(">")).view(numpy.uint8)
        units = points.reshape(rows, width)
    if width % _WORD:
        padded = numpy.zeros((rows, width + _WORD - width % _WORD), numpy.uint8)
        padded[:, :width] = units
        units = padded
    parts = numpy.ascontiguousarray(units).view(">u8")
    return [parts[:, index].astype(numpy.uint64) for index in range(parts.shape[1])]


def _words_of_rows(column: Any, descending: bool) -> list[Any] | None:
    import numpy

    if column.ndim > 2 or not column.shape[1]:
        return None
    if column.dtype.kind == "u" and column.dtype.itemsize == 1:
        rows = numpy.ascontiguousarray(column).view(f"V{column.shape[1]}").reshape(len(column))
        return words_of(rows, descending=descending)
    found: list[Any] = []
    for index in range(column.shape[1]):
        words = words_of(column[:, index], descending=descending)
        if words is None:
            return None
        found += words
    return found


def order_of(words: Sequence[Any]) -> Any:
    """The positions of the rows in ascending order; equal rows stay in their order."""
    import numpy

    first, *rest = words
    if _is_mixed(first):
        order, same, exact = _by_packing(first)
        rest = rest if exact else [first, *rest]
    else:
        order = numpy.argsort(first, kind="stable")
        found = first[order] if rest else first[:0]
        same = found[1:] == found[:-1]
    if not rest or not same.any():
        return order
    # Only rows whose first words are equal need to be compared by the others.
    tied = numpy.zeros(len(order), bool)
    tied[1:] = same
    tied[:-1] |= same
    rows = numpy.flatnonzero(tied)
    groups = numpy.cumsum(numpy.concatenate(([True], ~same)))[rows]
    some = order[rows]
    order[rows] = some[numpy.lexsort([*(word[some] for word in reversed(rest)), groups])]
    return order


def _is_mixed(word: Any) -> bool:
    """Whether a word has mostly different values in no order, by a look at some."""
    import numpy

    count = len(word)
    if count < _MANY or word.dtype.itemsize < 4:  # those of 16 bits are counted
        return False
    start = numpy.arange(0, count - 1, max(1, (count - 1) // _LOOKS))
    some = word[start]
    falling = int((word[start + 1] < some).sum())
    return len(start) // 4 < falling < len(start) * 3 // 4 and len(numpy.unique(some)) > len(some) * 15 // 16


def _by_packing(word: Any) -> tuple[Any, Any, bool]:
    """Key and place of each row as one number of 64 bits: numbers are sorted faster than their positions.

    :returns: the order, whether each key equals the one behind it, and whether all bits of keys were looked at; equal
        keys are in the order of their places.
    """
    import numpy

    count = len(word)
    low, high = int(word.min()), int(word.max())
    width = (count - 1).bit_length()
    dropped = max(0, (high - low).bit_length() + width - 64)
    packed = word.astype(numpy.uint64)
    packed -= numpy.uint64(low % 2**64)
    packed >>= numpy.uint64(dropped)
    packed <<= numpy.uint64(width)
    packed |= numpy.arange(count, dtype=numpy.uint64)
    packed.sort()
    order = (packed & numpy.uint64((1 << width) - 1)).astype(numpy.intp)
    packed >>= numpy.uint64(width)
    return order, packed[1:] == packed[:-1], not dropped


def places(words: Sequence[Any], bounds: Sequence[Any]) -> Any:
    """For each row the number of bounds that are not above it.

    :param bounds: the words of ascending bounds, of the same kinds.
    """
    import numpy

    if len(words) == 1:
        return numpy.searchsorted(bounds[0], words[0], side="right")
    # Where the first word decides, it is enough.
    low, high = (numpy.searchsorted(bounds[0], words[0], side=side) for side in ("left", "right"))
    found = high
    open_rows = numpy.flatnonzero(low != high)
    if len(open_rows):
        some = [word[open_rows] for word in words]
        count = numpy.zeros(len(open_rows), found.dtype)
        for index in range(len(bounds[0])):
            above, equal = numpy.zeros(len(open_rows), bool), numpy.ones(len(open_rows), bool)
            for word, bound in zip(some, bounds, strict=True):
                above |= equal & (word > bound[index])
                equal &= word == bound[index]
            count += above | equal
        found = found.copy()
        found[open_rows] = count
    return found


def firsts(words: Sequence[Any]) -> Any:
    """For sorted rows: whether each differs from the row before it."""
    import numpy

    new = numpy.zeros(len(words[0]), bool)
    new[:1] = True
    for word in words:
        new[1:] |= word[1:] != word[:-1]
    return new
