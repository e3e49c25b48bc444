"""What flows: batches. Their three forms, how many records one has, and how to walk over one.

A batch is a ``list`` of Python objects, a numpy array whose first axis counts records, or an Arrow record batch. A
lazy sequence of records that defines ``__t2_records__`` (a list-like view, e.g. the lines of a text block) counts as
the first form. Nothing here imports numpy or pyarrow: the forms are recognised by what they offer.

**Lazy sequences.** The class sets ``__t2_records__`` to the type of its records and is an immutable, picklable
``Sequence``; an attribute ``nbytes`` gives its size. One whose records are lines may also have ``text_block``: see
:func:`text_block`, and ``pieces(size)``: the same records in batches of its class of about so many characters.

**Ownership.** A batch given to an edge belongs to the system: arrays are read-only from then on, lists must not be
changed. A received batch may be a *lease* on a transport's buffer: read-only, given back when its last view dies.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence, Sized
from typing import Any, TypeAlias

Batch: TypeAlias = Any
"""A batch in one of the three forms (no common base class exists)."""

Buffer: TypeAlias = "bytes | bytearray | memoryview"
"""Anything with the buffer protocol that is contiguous."""


def is_arrow(batch: Batch) -> bool:
    """Whether ``batch`` is an Arrow record batch or table."""
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is None:
        return False
    # Another thread may be in the middle of importing it: then nothing here is from it yet.
    return isinstance(batch, (getattr(pyarrow, "RecordBatch", ()), getattr(pyarrow, "Table", ())))


_arrays: Any = ()


def is_array(batch: Batch) -> bool:
    """Whether ``batch`` is a numpy array."""
    global _arrays
    if not _arrays:  # asked for every batch, so remembered once numpy is there
        _arrays = getattr(sys.modules.get("numpy"), "ndarray", ())
    return isinstance(batch, _arrays)


def is_scalar(value: Any) -> bool:
    """Whether a record is one value of numpy's, no array."""
    return hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0


def n_records(batch: Batch) -> int:
    """Number of records in a batch: list length, first axis, or rows."""
    if type(batch) is list:
        return len(batch)
    if is_arrow(batch):
        return int(batch.num_rows)
    if not isinstance(batch, Sized):
        raise TypeError(f"a batch is a list, a numpy array or an Arrow record batch, not {type(batch).__name__}")
    return len(batch)


def records(batch: Batch) -> Iterable[Any]:
    """The records of a batch as Python objects: rows of an array, ``dict`` rows of an Arrow batch, items of a list."""
    return python_values(batch) if is_arrow(batch) else batch


def python_value(value: Any) -> Any:
    """A number of numpy's as Python's, whose integers do not overflow; any other value as it is.

    Times of numpy's become Python's where there is a type for these: not in nanoseconds.
    """
    if not is_scalar(value):
        return value
    item = value.item()
    return value if value.dtype.kind in "mM" and isinstance(item, int) else item


def python_values(columns: Any) -> list[Any]:
    """The values of an Arrow column, or the rows of a batch, as Python objects.

    :raises OperatorError: Python has no objects for some of them.
    """
    try:
        return columns.to_pylist()  # type: ignore[no-any-return]
    except (ValueError, OverflowError) as error:
        from twister2.spec.errors import OperatorError

        kinds = ", ".join(f"{one.name}: {one.type}" for one in columns.schema) if is_arrow(columns) else columns.type
        why = "times of Python count microseconds, in the years 1 to 9999"
        remedy = "cast such columns first: to timestamp('us'), or nanoseconds to int64"
        if isinstance(error, UnicodeError):
            why, remedy = "text of Python is Unicode", "cast such columns first: to binary"
        raise OperatorError(
            f"values of Arrow cannot be Python objects ({kinds})", why=f"{why}: {error}", remedy=remedy
        ) from error


def n_bytes(batch: Batch) -> int:
    """Size of a batch in bytes: exact for arrays and Arrow, estimated from a sample of at most 32 records for lists."""
    if is_arrow(batch) or is_array(batch):
        return int(batch.nbytes)
    size = getattr(batch, "nbytes", None)
    if isinstance(size, int):
        return size
    if not isinstance(batch, Sequence) or not batch:
        return sys.getsizeof(batch)
    step = max(1, len(batch) // 32)
    sample = batch[::step]
    sizes = map(sys.getsizeof if _SIMPLE.issuperset(map(type, sample)) else _object_bytes, sample)
    return sys.getsizeof(batch) + len(batch) * sum(sizes) // len(sample)


_SIMPLE: frozenset[type] = frozenset({str, bytes, int, float, bool, complex, type(None)})
"""Types whose objects refer to no others."""


def _object_bytes(item: Any, depth: int = 2) -> int:
    size = sys.getsizeof(item)
    if depth and isinstance(item, (tuple, list)):
        size += sum(_object_bytes(part, depth - 1) for part in item[:8])
    return size


def text_block(batch: Batch) -> str | None:
    r"""The text of a lazy batch of lines that has not been split yet; None for every other batch.

    The records are exactly ``text.split("\n")``, so a function to which the ends of lines are white space like any
    other (``str.split``) gives the same answer for the whole text at once.
    """
    if not hasattr(type(batch), "__t2_records__"):
        return None
    text = getattr(batch, "text_block", None)
    return text if isinstance(text, str) else None


def own(batch: Batch) -> Batch:
    """Make a batch belong to the system: its memory can no longer be changed through names its maker has.

    :raises OperatorError: a masked array.
    """
    if is_array(batch) and type(batch) is not _arrays:
        batch = _plain(batch)
    return frozen(batch)


def frozen(value: Any) -> Any:
    """An array whose memory cannot be changed: it becomes read-only in place; a writable view of another array is
    copied, because its base could still be written through. Other values are returned as they are.
    """
    if not is_array(value) or not value.flags.writeable:
        return value
    if value.base is not None:
        value = value.copy()
    return freeze(value)


def _plain(batch: Any) -> Any:
    """An array of a subclass, whose rows are the records: those of a ``numpy.matrix`` are matrices themselves."""
    import numpy

    if isinstance(batch, numpy.ma.MaskedArray):
        from twister2.spec.errors import OperatorError

        raise OperatorError(
            "a batch is a masked array",
            why="batches are moved, cut and joined as memory: the mask would be lost, and what it hides would count",
            remedy="give array.compressed(), which leaves out what is masked, or array.filled(value)",
        )
    return numpy.asarray(batch) if isinstance(batch, numpy.matrix) else batch


def freeze(batch: Batch) -> Batch:
    """Make an array read-only (in place) because it now belongs to the system; other forms are returned as they are."""
    if is_array(batch) and batch.flags.writeable:
        batch.flags.writeable = False
    return batch
