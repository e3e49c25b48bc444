"""Writing binary records of one size, one after another."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, records
from twister2.spec.errors import DataFormatError, UsageError
from twister2_data_file.options import record_type
from twister2_data_file.writing import Encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2_data_file.options import BinaryWriteOptions

_NUMBERS = "biufc"
_BYTES = (bytes, bytearray, memoryview)


class BinaryEncoder(Encoder):
    """The memory of arrays, and strings of bytes, as they are.

    A record is a row of an array, a string of bytes, or with ``dtype`` a number or a tuple of its fields. All have the
    type of the first, or that of the options; an array may have a smaller type of the same meaning.
    """

    def __init__(self, file: IO[bytes], options: BinaryWriteOptions, where: str) -> None:
        if options.record_bytes is not None and options.dtype is not None:
            raise UsageError(
                "writing binary: record_bytes and dtype are given",
                why="each of them says how long a record is",
                remedy="give one of them",
            )
        self._file = file
        self._where = where
        self._n_records = 0
        self._dtype: Any = None
        if options.dtype is not None:
            self._dtype = record_type(options.dtype)
        elif options.record_bytes is not None:
            self._dtype = record_type(f"V{options.record_bytes}")

    def write(self, batch: Batch) -> None:
        """Append records.

        :raises DataFormatError: one of another type or size, or a value that would not be the same.
        """
        import numpy

        try:
            made = self._array(batch)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._unfit(str(error)) from error
        self._n_records += len(made)
        self._file.write(numpy.ascontiguousarray(made).reshape(-1).view("u1").data)

    def finish(self) -> None:
        """Nothing: the file has no end of its own."""

    def schema(self) -> str:
        """The type of the records, in numpy's words; agreed on for all parts."""
        return "" if self._dtype is None else f"{self._dtype.itemsize} bytes of {self._dtype}"

    def discard(self) -> None:
        """Nothing is held."""

    def _array(self, batch: Batch) -> Any:
        if is_array(batch):
            return self._fitted(batch)
        if is_arrow(batch):
            if batch.num_columns != 1:
                raise self._unfit(f"{batch.num_columns} columns are no binary record")
            return self._array(batch.column(0).to_pylist())
        values = list(records(batch))
        if isinstance(values[0], _BYTES):
            return self._of_bytes(values)
        if is_array(values[0]) or hasattr(values[0], "dtype"):
            return self._of_rows(values)
        if self._dtype is None:
            raise self._unfit(f"a record is {type(values[0]).__name__}; without dtype it is bytes or a row of an array")
        return _numbers(values, self._dtype)

    def _of_bytes(self, values: Sequence[Any]) -> Any:
        import numpy

        if self._dtype is None:
            self._dtype = record_type(f"V{len(values[0])}") if len(values[0]) else None
        size = 0 if self._dtype is None else self._dtype.itemsize
        for number, value in enumerate(values):
            if not isinstance(value, _BYTES) or len(value) != size or not size:
                long = f"{len(value)} bytes" if isinstance(value, _BYTES) else type(value).__name__
                raise self._unfit(
                    f"record {self._n_records + number} is {long}, but records have {size or 'some'} bytes"
                )
        return numpy.frombuffer(b"".join(values), f"V{size}")

    def _of_rows(self, values: Sequence[Any]) -> Any:
        import numpy

        first = values[0]
        kind, shape = first.dtype, first.shape
        strange = next((row for row in values if getattr(row, "dtype", None) != kind or row.shape != shape), None)
        if strange is not None:
            raise self._unfit(f"one record is {kind} of shape {shape}, another {strange!r:.80}")
        return self._fitted(numpy.array(values, kind))

    def _fitted(self, array: Any) -> Any:
        """An array of which each record has the type, the values unchanged."""
        import numpy

        if array.dtype.hasobject or array.ndim == 0:
            raise self._unfit(f"an array of {array.dtype} holds no records of one size")
        kind = numpy.dtype((array.dtype, array.shape[1:])) if array.ndim > 1 else array.dtype
        if self._dtype is None:
            self._dtype = kind
        wanted = self._dtype
        if wanted.kind == "V" and not wanted.names and wanted.subdtype is None:
            if kind.itemsize != wanted.itemsize:
                raise self._unfit(f"a record has {kind.itemsize} bytes, but records have {wanted.itemsize}")
            return array
        if kind.shape != wanted.shape or not numpy.can_cast(kind.base, wanted.base, "safe"):
            raise self._unfit(f"a record is {kind}, but records are {wanted}")
        return array.astype(wanted.base, copy=False)

    def _unfit(self, why: str) -> DataFormatError:
        return DataFormatError(
            f"records do not fit the binary records of {self._where}",
            why=why,
            remedy="write records of one size and type; the option dtype says which",
            where=self._where,
        )


def _numbers(values: Sequence[Any], wanted: Any) -> Any:
    """Python objects as an array of that type.

    :raises ValueError, TypeError, OverflowError: a value would be another one then.
    """
    import numpy

    if wanted.names:
        made = numpy.empty(len(values), wanted)
        if any(not isinstance(value, (tuple, list)) or len(value) != len(wanted.names) for value in values):
            raise ValueError(f"a record is no tuple of {len(wanted.names)} values: {', '.join(wanted.names)}")
        for name, column in zip(wanted.names, zip(*values, strict=True), strict=True):
            made[name] = _numbers(column, wanted[name])
        return made
    if wanted.kind == "V" and wanted.subdtype is None:
        if any(not isinstance(value, _BYTES) or len(value) != wanted.itemsize for value in values):
            raise ValueError(f"a value is not {wanted.itemsize} bytes long")
        return numpy.frombuffer(b"".join(values), wanted)
    given = numpy.array(values)
    made = numpy.array(values, wanted.base)
    if made.shape[1:] != wanted.shape:
        raise ValueError(f"a value has the shape {made.shape[1:]}, but records have {wanted.shape}")
    from_kind, to_kind = given.dtype.kind, made.dtype.kind
    if numpy.can_cast(given.dtype, wanted.base, "safe") or (from_kind in "iuf" and to_kind in "fc"):
        return made
    if from_kind == "O":  # integers of any size, times, None
        same = made.tolist() == list(values)
    else:
        same = (from_kind in _NUMBERS) == (to_kind in _NUMBERS) and bool(numpy.array_equal(given, made))
    if not same:
        raise ValueError(f"a value does not fit {wanted}")
    return made
