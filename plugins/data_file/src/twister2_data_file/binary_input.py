"""Reading binary records of one size as numpy arrays."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from twister2.spec.data import ReadPlan, ReadRequest, Split
from twister2.spec.errors import DataFormatError, UsageError
from twister2_data_file.compression import open_bytes, packing_of
from twister2_data_file.inputs import cut, split_size
from twister2_data_file.options import MIB, record_type
from twister2_data_file.problems import not_the_format, reading
from twister2_data_file.reading import Piece, SplitReader

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from twister2_data_file.options import BinaryReadOptions
    from twister2_data_file.stores import FoundFile


def plan_binary(request: ReadRequest, files: Sequence[FoundFile], n_tasks: int, options: BinaryReadOptions) -> ReadPlan:
    """Splits cut between records.

    :raises DataFormatError: a file is no whole number of records; packed ones are told when they are read.
    """
    if request.columns is not None or request.predicate:
        raise UsageError(
            "binary records have no columns to choose",
            why="a record is read as a whole",
            remedy="choose the fields of the arrays with map_batches, and filter the records",
        )
    record = _dtype(options).itemsize
    for file in files:
        if not file.whole and packing_of(file.path) is None and file.size % record:
            raise _partial(file.path, file.size - file.size % record, file.size % record, record)
    size = max(record, split_size(files, n_tasks, options.split_mb))
    splits = [split for file in files for split in cut(file, size, whole=False, record=record)]
    return ReadPlan(tuple(splits))


class BinaryReader(SplitReader):
    """Arrays of records, read-only."""

    def __init__(self, splits: Sequence[Split], options: BinaryReadOptions) -> None:
        super().__init__(splits)
        self._dtype = _dtype(options)
        self._batch = max(1, int(options.batch_mb * MIB) // self._dtype.itemsize) * self._dtype.itemsize

    def read_split(self, split: Split, mark: Any) -> Generator[Piece | None, None, None]:
        """Arrays of a split; a mark is a byte offset, in packed files after unpacking."""
        import numpy

        path, end, record = split.spec["path"], split.spec["end"], self._dtype.itemsize
        at = int(split.spec["start"] if mark is None else mark)
        with reading(path), open_bytes(path, forward=end is None) as file:
            file.seek(at)
            while end is None or at < end:
                data = _exactly(file, self._batch if end is None else min(self._batch, end - at))
                if len(data) % record or (not data and end is not None):
                    raise _partial(path, at + len(data) - len(data) % record, len(data) % record, record)
                if not data:
                    return
                at += len(data)
                records = numpy.frombuffer(data, self._dtype)
                yield Piece(records, len(records), len(data), at)


def _exactly(file: IO[bytes], size: int) -> bytes:
    """So many bytes, less only at the end of the file."""
    data = file.read(size)
    if len(data) == size or not data:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := file.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _dtype(options: BinaryReadOptions) -> Any:
    if (options.record_bytes is None) == (options.dtype is None):
        raise UsageError(
            "reading binary: give record_bytes or dtype, one of them",
            why="the files do not say how long a record is",
            remedy='record_bytes=100, or dtype="<f8", or dtype=[("key", "S10"), ("value", "V90")]',
        )
    return record_type(f"V{options.record_bytes}" if options.dtype is None else options.dtype)


def _partial(path: str, offset: int, n_bytes: int, record: int) -> DataFormatError:
    what = (
        f"ends in the middle of a record: {n_bytes} bytes at byte {offset}, but a record has {record}"
        if n_bytes
        else f"ends at byte {offset}, before the records that were there when the input was planned"
    )
    error = not_the_format(
        path,
        what,
        "the file is cut off or still being written, or its records have another size",
        "get the file again, or correct record_bytes or dtype",
        f"{path}, byte {offset}",
    )
    error.details.update(offset=offset, record_bytes=record)
    return error
