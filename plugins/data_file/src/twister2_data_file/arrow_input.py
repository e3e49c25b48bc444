"""Reading Arrow's own formats: files (Feather 2 too) by record batches, streams from their beginning."""

from __future__ import annotations

import io
import itertools
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from twister2.spec.data import ReadPlan, ReadRequest, Split
from twister2.spec.uris import without_secrets
from twister2_data_file.arrow_copy import FILE_MAGIC
from twister2_data_file.arrow_types import difference
from twister2_data_file.compression import open_bytes, packing_of
from twister2_data_file.filtering import check_predicate, columns_to_read, matching
from twister2_data_file.inputs import split_size
from twister2_data_file.parquet_input import schemas_differ, wanted_schema
from twister2_data_file.problems import check_columns, not_the_format, reading
from twister2_data_file.reading import Piece, SplitReader
from twister2_data_file.stores import FoundFile, store_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from twister2.spec.errors import DataFormatError
    from twister2_data_file.options import ArrowReadOptions


def plan_arrow(request: ReadRequest, files: Sequence[FoundFile], n_tasks: int, options: ArrowReadOptions) -> ReadPlan:
    """Splits of consecutive record batches; a stream is one.

    :raises DataFormatError: a file is not Arrow, lacks a wanted column, or two files have different schemas.
    """
    check_predicate(request.predicate)
    size = split_size(files, n_tasks, options.split_mb)
    splits: list[Split] = []
    first: tuple[str, Any] | None = None
    for file in files:
        with reading(file.path), _arrow(file.path), _opened(file.path) as source:
            stream, reader = _reader(source, file.path, None)
            n_batches = None if stream else int(reader.num_record_batches)
            schema = wanted_schema(reader.schema, request, file.path)
        if first is None:
            first = file.path, schema
        elif (differs := difference(first[1], schema)) is not None:
            raise schemas_differ(first[0], file.path, differs)
        splits += _cut(file, n_batches, size)
    return ReadPlan(tuple(splits), schema=None if first is None else first[1])


class ArrowReader(SplitReader):
    """Arrow record batches of the wanted columns, of the rows for which the predicate holds."""

    def __init__(self, request: ReadRequest, splits: Sequence[Split], options: ArrowReadOptions) -> None:
        super().__init__(splits)
        self._columns = list(request.columns) if request.columns is not None else None
        self._predicate = request.predicate
        self._rows = options.batch_rows

    def read_split(self, split: Split, mark: Any) -> Generator[Piece | None, None, None]:
        """Batches of a split; a mark is ``[record batch, rows of it]``."""
        path, last = split.spec["path"], split.spec["last"]
        number, row = mark or (split.spec["first"], 0)
        read = columns_to_read(self._columns, self._predicate)
        with reading(path), _arrow(path), _opened(path) as source:
            for at, whole in _batches(source, path, read, int(number), last):
                whole.validate(full=True)  # what is damaged must not be walked over
                for begin in range(int(row), whole.num_rows, self._rows):
                    batch = whole.slice(begin, self._rows)
                    rows = matching(batch, self._predicate, self._columns, path)
                    full = Piece(rows, rows.num_rows, rows.nbytes, [at, begin + batch.num_rows])
                    yield full if rows.num_rows else None
                row = 0


def _batches(
    source: IO[bytes], path: str, columns: Sequence[str] | None, first: int, last: int | None
) -> Iterator[tuple[int, Any]]:
    """Record batches from number ``first`` to before ``last``, with their numbers."""
    stream, reader = _reader(source, path, columns)
    if stream:
        yield from itertools.islice(enumerate(reader), first, None)
        return
    for number in range(first, int(reader.num_record_batches) if last is None else last):
        yield number, reader.get_batch(number)


def _opened(path: str) -> IO[bytes]:
    if packing_of(path) is None:
        return store_of(path)[0].open(path)
    return io.BufferedReader(cast("io.RawIOBase", open_bytes(path)), 1 << 18)  # pyarrow takes less for the end


def _reader(source: IO[bytes], path: str, columns: Sequence[str] | None) -> tuple[bool, Any]:
    """Whether it is a stream, and pyarrow's reader, of these columns and in any case of their schema."""
    from pyarrow import ipc

    head = source.read(len(FILE_MAGIC))
    source.seek(0)
    if head.startswith(b"FEA1"):
        raise _not_arrow(path, "it is Feather of version 1, which has been given up long ago")
    stream = head != FILE_MAGIC
    if not stream and packing_of(path) is not None:
        raise not_the_format(
            path, "an Arrow file that is packed", "it is read from its end", "unpack it, or pack streams instead"
        )
    opened = ipc.open_stream if stream else ipc.open_file
    reader = opened(source)
    if columns is not None:
        check_columns(path, columns, reader.schema.names)
        numbers = [reader.schema.get_field_index(name) for name in columns]
        source.seek(0)
        reader = opened(source, options=ipc.IpcReadOptions(included_fields=numbers, use_threads=False))
    return stream, reader


@contextmanager
def _arrow(path: str) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, MemoryError, OverflowError, IndexError, UnicodeDecodeError) as error:
        raise _not_arrow(path, str(error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _not_arrow(path, str(error)) from error  # pyarrow reports missing bytes as errors without a number


def _not_arrow(path: str, why: str) -> DataFormatError:
    return not_the_format(path, "not a whole Arrow file or stream", why, "get the file again, or leave it out")


def _cut(file: FoundFile, n_batches: int | None, size: int) -> list[Split]:
    shown = without_secrets(file.path)
    if n_batches is None:
        return [Split(shown, {"path": file.path, "first": 0, "last": None}, file.size)]
    n_parts = min(n_batches, max(1, -(-file.size // size)))
    bounds = [n_batches * part // n_parts for part in range(n_parts + 1)] if n_parts else []
    return [
        Split(
            f"{shown} record batches {first} to {last - 1}",
            {"path": file.path, "first": first, "last": last},
            file.size * last // n_batches - file.size * first // n_batches,
        )
        for first, last in itertools.pairwise(bounds)
    ]
