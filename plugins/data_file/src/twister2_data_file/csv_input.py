"""Reading CSV: planned with one schema for all files, parsed by pyarrow into Arrow record batches."""

from __future__ import annotations

import csv
import io
import re
from typing import IO, TYPE_CHECKING, Any

from twister2.spec.data import ReadPlan, ReadRequest, Split
from twister2.spec.errors import DataError, DataFormatError
from twister2.spec.uris import without_secrets
from twister2_data_file.arrow_types import common_type, types_named
from twister2_data_file.compression import is_broken_archive, open_bytes
from twister2_data_file.filtering import check_predicate, columns_to_read, matching
from twister2_data_file.inputs import cut, split_size
from twister2_data_file.problems import check_columns, not_the_format, reading
from twister2_data_file.reading import Piece, SplitReader
from twister2_data_file.text import blocks, newlines_before, next_line

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from twister2_data_file.options import CsvReadOptions
    from twister2_data_file.stores import FoundFile

GUESSED_FILES = 64
"""How many files are looked into for the types of columns."""

_ROW = re.compile(r"Row #(\d+)")


def plan_csv(request: ReadRequest, files: Sequence[FoundFile], n_tasks: int, options: CsvReadOptions) -> ReadPlan:
    """Splits of all files. Names come from the first file's header, types from the first blocks of several.

    :raises DataFormatError: files have different headers; names both and the field.
    """
    check_predicate(request.predicate)
    full = [file for file in files if not file.empty]
    if not full:
        return ReadPlan(())
    names = _names(full[0].path, options)
    for file in full[1:]:
        _compare(full[0].path, names, file.path, _names(file.path, options))
    named = [*(request.columns or ()), *(column for column, _, _ in request.predicate), *options.column_types]
    check_columns(full[0].path, named, names)
    types = _common_types(full, names, options) | dict(options.column_types)
    size = split_size(full, n_tasks, options.split_mb)
    extra = {"names": list(names), "types": types}
    splits = [
        Split(split.label, {**split.spec, **extra}, split.n_bytes)
        for file in full
        for split in cut(file, size, whole=options.newlines_in_values)
    ]
    wanted = request.columns or names
    return ReadPlan(tuple(splits), schema=_schema(types, wanted))


def _schema(types: Mapping[str, str], columns: Iterable[str]) -> Any:
    import pyarrow

    return pyarrow.schema(types_named({name: types[name] for name in columns}))


class CsvReader(SplitReader):
    """Arrow record batches of the wanted columns, all of one schema, of the rows for which the predicate holds."""

    def __init__(self, request: ReadRequest, splits: Sequence[Split], options: CsvReadOptions) -> None:
        super().__init__(splits)
        self._columns = request.columns
        self._predicate = request.predicate
        self._options = options

    def read_split(self, split: Split, mark: Any) -> Generator[Piece | None, None, None]:
        """Batches of a split; a mark is the number of batches before it."""
        path, done = split.spec["path"], int(mark or 0)
        read = columns_to_read(self._columns, self._predicate)
        with reading(path), open_bytes(path, forward=split.spec["end"] is None) as file:
            for number, batch in enumerate(_parse(file, split, read, self._options)):
                if number >= done:
                    rows = matching(batch, self._predicate, self._columns, path)
                    yield Piece(rows, rows.num_rows, rows.nbytes, number + 1) if rows.num_rows else None


def _parse(file: IO[bytes], split: Split, columns: Sequence[str] | None, options: CsvReadOptions) -> Iterator[Any]:
    import pyarrow
    from pyarrow import csv as arrow_csv

    path, start, end = split.spec["path"], int(split.spec["start"]), split.spec["end"]
    check_columns(path, columns or (), split.spec["names"])
    begin = next_line(file, start, end, options.block_kb * 1024) if start else 0
    if end is not None and begin >= end:
        return
    bad_rows: list[Any] = []

    def keep(row: Any) -> str:
        bad_rows.append(row)
        return "error"

    try:
        with arrow_csv.open_csv(
            _Range(file, begin, end),
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=options.block_kb * 1024,
                column_names=split.spec["names"],
                skip_rows_after_names=1 if options.header and begin == 0 else 0,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=options.delimiter,
                quote_char=options.quote_char,
                newlines_in_values=options.newlines_in_values,
                invalid_row_handler=keep,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types_named(split.spec["types"]), include_columns=list(columns) if columns else None
            ),
        ) as batches:
            yield from batches
    except pyarrow.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return  # a header and nothing else
        raise _malformed(path, begin, error, bad_rows) from error


class _Range(io.RawIOBase):
    """The whole lines that begin in ``[start, end)`` of a file, as a file."""

    def __init__(self, file: IO[bytes], start: int, end: int | None) -> None:
        file.seek(start)
        self._blocks = blocks(file, start, end, 1 << 18)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Exactly ``size`` bytes but at the end."""
        parts, wanted = [], size if size >= 0 else 1 << 62
        while wanted > 0:
            if not self._rest:
                following = next(self._blocks, (0, b""))
                if following is None:
                    continue
                self._rest = following[1]
                if not self._rest:
                    break
            parts.append(self._rest[:wanted])
            self._rest = self._rest[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)


def _first_row(path: str, options: CsvReadOptions) -> list[str]:
    with reading(path), open_bytes(path, forward=True) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", newline="")
        try:
            rows = csv.reader(text, delimiter=options.delimiter, quotechar=options.quote_char)
            return next((row for row in rows if row), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise not_the_format(path, "the first row is not CSV in UTF-8", str(error), "convert the file") from error
        finally:
            text.detach()


def _names(path: str, options: CsvReadOptions) -> tuple[str, ...]:
    row = _first_row(path, options)
    names = tuple(row) if options.header else tuple(f"f{number}" for number in range(len(row)))
    if options.column_names is not None:
        if len(options.column_names) != len(names):
            raise not_the_format(
                path,
                f"has {len(names)} columns, but column_names gives {len(options.column_names)}",
                f"the first row is {row}",
                "give one name per column",
            )
        return tuple(options.column_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise not_the_format(path, f"column {twice[0]!r} comes twice", f"the header is {row}", "give column_names")
    return names


def _compare(first: str, names: Sequence[str], path: str, others: Sequence[str]) -> None:
    if list(names) == list(others):
        return
    differing = next((one for one in [*names, *others] if (one in names) != (one in others)), None)
    field = f"field {differing!r} is in one of them only" if differing is not None else "the order of fields differs"
    first, path = without_secrets(first), without_secrets(path)
    raise DataFormatError(
        f"{first} and {path} have different columns: {field}",
        why=f"the first has {list(names)}, the second {list(others)}",
        remedy="read them apart, or give column_names if only the headers differ",
        details={"paths": [first, path], "field": differing},
    )


def _common_types(files: Sequence[FoundFile], names: Sequence[str], options: CsvReadOptions) -> dict[str, str]:
    """Type names by column that suit the first blocks of the first files; where none does, that of the first file."""
    found: dict[str, Any] = {}
    for file in files[:GUESSED_FILES]:
        for name, guess in _guessed(file.path, names, options).items():
            common = common_type(found[name], guess) if name in found else guess
            if common is not None:
                found[name] = common
    return {name: "string" if str(found[name]) == "null" else str(found[name]) for name in names}


def _guessed(path: str, names: Sequence[str], options: CsvReadOptions) -> dict[str, Any]:
    """Arrow types by column, as pyarrow guesses them from the first block of a file."""
    import pyarrow

    split = Split(path, {"path": path, "start": 0, "end": None, "names": list(names), "types": options.column_types})
    try:
        with reading(path), open_bytes(path, forward=True) as file:
            batch = next(_parse(file, split, None, options), None)
    except DataError as error:
        if isinstance(error, DataFormatError) and not is_broken_archive(error):
            return dict.fromkeys(names, pyarrow.null())  # the reader will say what is wrong, and where
        raise
    if batch is None:
        return dict.fromkeys(names, pyarrow.null())
    return {field.name: field.type for field in batch.schema}


def _malformed(path: str, begin: int, error: Exception, bad_rows: Sequence[Any]) -> DataFormatError:
    text = str(error)
    if "straddling" in text:
        return not_the_format(path, "a row is longer than a block", text, "set block_kb to more than the longest row")
    number = bad_rows[0].number if bad_rows else int(found[1]) if (found := _ROW.search(text)) else None
    if number is not None and begin:
        number += newlines_before(path, begin)
    row = f"row {number}" if number is not None else "a row"
    if bad_rows:
        expected, actual = bad_rows[0].expected_columns, bad_rows[0].actual_columns
        what = f"{row} has {actual} columns, expected {expected}"
        made = not_the_format(
            path, what, f"the row is {bad_rows[0].text!r}", "correct the row; values with commas need quotes", row
        )
        made.details.update(expected=expected, found=actual)
    else:
        made = not_the_format(
            path, f"{row} does not fit the column's type", text, "correct the value, or set column_types", row
        )
    made.details["row"] = number
    return made
