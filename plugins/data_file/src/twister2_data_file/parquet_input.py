"""Reading Parquet: planned by row groups, schemas compared, row groups pruned by their statistics."""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from twister2.spec.data import ReadPlan, ReadRequest, Split
from twister2.spec.errors import DataFormatError
from twister2.spec.uris import without_secrets
from twister2_data_file.arrow_types import difference
from twister2_data_file.filtering import check_predicate, columns_to_read, matching, may_hold
from twister2_data_file.inputs import split_size
from twister2_data_file.problems import check_columns, not_the_format, reading
from twister2_data_file.reading import Piece, SplitReader
from twister2_data_file.stores import FoundFile, store_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from twister2_data_file.options import ParquetReadOptions


def plan_parquet(
    request: ReadRequest, files: Sequence[FoundFile], n_tasks: int, options: ParquetReadOptions
) -> ReadPlan:
    """Splits of consecutive row groups.

    :raises DataFormatError: a file is not Parquet, lacks a wanted column, or two files have different schemas.
    """
    check_predicate(request.predicate)
    size = split_size(files, n_tasks, options.split_mb)
    splits: list[Split] = []
    first: tuple[str, Any] | None = None
    for file in files:
        with reading(file.path), _parquet(file.path), store_of(file.path)[0].open(file.path) as source:
            metadata, schema = _footer(source)
            schema = wanted_schema(schema, request, file.path)
            groups = [
                number for number in range(metadata.num_row_groups) if _may_match(metadata, number, request.predicate)
            ]
        if first is None:
            first = file.path, schema
        elif (differs := difference(first[1], schema)) is not None:
            raise schemas_differ(first[0], file.path, differs)
        splits += _cut(file, metadata, groups, size)
    return ReadPlan(tuple(splits), schema=None if first is None else first[1])


def schemas_differ(first: str, second: str, difference: str) -> DataFormatError:
    """The error for two files of one input with different schemas."""
    one, two = without_secrets(first), without_secrets(second)
    return DataFormatError(
        f"{one} and {two} have different schemas: {difference}",
        why="all files of one input must have the same fields of the same types",
        remedy="read them apart, or read only columns that agree",
        details={"paths": [one, two]},
    )


class ParquetReader(SplitReader):
    """Arrow record batches of the wanted columns, of the rows for which the predicate holds."""

    def __init__(self, request: ReadRequest, splits: Sequence[Split], options: ParquetReadOptions) -> None:
        super().__init__(splits)
        self._columns = list(request.columns) if request.columns is not None else None
        self._predicate = request.predicate
        self._rows = options.batch_rows

    def read_split(self, split: Split, mark: Any) -> Generator[Piece | None, None, None]:
        """Batches of a split; a mark is ``[place in the row groups, batches of it]``."""
        from pyarrow import parquet

        path, groups = split.spec["path"], split.spec["groups"]
        place, done = mark or (0, 0)
        read = columns_to_read(self._columns, self._predicate)
        with reading(path), _parquet(path), store_of(path)[0].open(path) as source:
            file = parquet.ParquetFile(source)
            check_columns(path, read or (), file.schema_arrow.names)
            for at in range(int(place), len(groups)):
                # Planned without the predicate when a rule has added it since.
                if not _may_match(file.metadata, groups[at], self._predicate):
                    done = 0
                    continue
                batches = file.iter_batches(self._rows, [groups[at]], columns=read, use_threads=False)
                for number, batch in enumerate(batches):
                    if number < done:
                        continue
                    batch.validate(full=True)  # what is damaged must not be walked over
                    rows = matching(batch, self._predicate, self._columns, path)
                    full = Piece(rows, rows.num_rows, rows.nbytes, [at, number + 1])
                    yield full if rows.num_rows else None
                done = 0


def _footer(source: IO[bytes]) -> tuple[Any, Any]:
    from pyarrow import parquet

    file = parquet.ParquetFile(source)
    return file.metadata, file.schema_arrow


@contextmanager
def _parquet(path: str) -> Generator[None, None, None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise _not_parquet(path, error) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _not_parquet(path, error) from error  # pyarrow reports damaged pages as errors without a number


def _not_parquet(path: str, error: Exception) -> DataFormatError:
    return not_the_format(path, "not a whole Parquet file", str(error), "get the file again, or leave it out")


def wanted_schema(schema: Any, request: ReadRequest, path: str) -> Any:
    """The wanted columns of a file's schema.

    :raises DataFormatError: it lacks one that is wanted, or compared.
    """
    import pyarrow

    check_columns(path, [*(request.columns or ()), *(column for column, _, _ in request.predicate)], schema.names)
    return schema if request.columns is None else pyarrow.schema([schema.field(name) for name in request.columns])


def _may_match(metadata: Any, number: int, predicate: Sequence[tuple[str, str, Any]]) -> bool:
    group = metadata.row_group(number)
    if group.num_rows == 0:
        return False
    if not predicate:  # pyarrow ends the process when it looks at a column that a damaged footer contradicts
        return True
    columns = {
        metadata.schema.column(index).path: index for index in range(min(group.num_columns, len(metadata.schema)))
    }
    for name, comparison, value in predicate:
        statistics = group.column(columns[name]).statistics if name in columns else None
        if statistics is None or not statistics.has_min_max:
            continue
        try:
            low, high = statistics.min, statistics.max
        except ValueError:
            continue  # a time in nanoseconds, which Python has no type for
        if not may_hold(comparison, low, high, value):
            return False
    return True


def _cut(file: FoundFile, metadata: Any, groups: Sequence[int], size: int) -> list[Split]:
    unpacked = [max(0, int(metadata.row_group(number).total_byte_size)) for number in range(metadata.num_row_groups)]
    packed = file.size / max(1, sum(unpacked)) if file.size else 1.0  # of each as of all
    splits: list[Split] = []
    run: list[int] = []
    total = 0
    for number in groups:
        n_bytes = int(unpacked[number] * packed)
        if run and (total + n_bytes > size or number != run[-1] + 1):
            splits.append(_split(file.path, run, total))
            run, total = [], 0
        run.append(number)
        total += n_bytes
    return [*splits, _split(file.path, run, total)] if run else splits


def _split(path: str, groups: Sequence[int], n_bytes: int) -> Split:
    label = f"{without_secrets(path)} row groups {groups[0]} to {groups[-1]}"
    return Split(label, {"path": path, "groups": list(groups)}, n_bytes)
