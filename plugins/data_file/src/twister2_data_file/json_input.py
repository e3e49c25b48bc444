"""Reading JSON lines: one value per line; objects as rows of Arrow record batches, or anything as Python objects."""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any

from twister2.spec.data import ReadPlan, ReadRequest, Split
from twister2.spec.errors import DataFormatError, UsageError
from twister2_data_file.arrow_types import schema_of_text, schema_text, told, types_named
from twister2_data_file.compression import is_broken_archive, open_bytes
from twister2_data_file.filtering import check_predicate, columns_to_read, matching
from twister2_data_file.inputs import cut, split_size
from twister2_data_file.json_types import TooDeepError, add_types, has_objects, misfit
from twister2_data_file.problems import check_columns, not_the_format, reading
from twister2_data_file.reading import Piece, SplitReader
from twister2_data_file.text import blocks, newlines_before, next_line, not_utf8

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from twister2_data_file.options import JsonReadOptions
    from twister2_data_file.stores import FoundFile

GUESSED_FILES = 64
"""How many files are looked into for the fields of objects,"""
GUESSED_BYTES = 2 << 20
"""how much of all of them together,"""
LEAST_GUESSED = 32 << 10
"""and of each at least, but no more than a block."""

_LONE_NULL = re.compile(rb"[\n}][ \t\r]*null")
"""A line that is null, or text that looks so: pyarrow must not see the first, it may crash of it."""

_OBJECTS = 'correct the line, or read any values with form="objects"'
_TYPES = 'name the type with column_types, or read objects of all kinds with form="objects"'


def plan_json(request: ReadRequest, files: Sequence[FoundFile], n_tasks: int, options: JsonReadOptions) -> ReadPlan:
    """Splits cut at lines. Fields and types come from the first blocks of several files and hold for all.

    :raises DataFormatError: a wanted column is in none of them. :raises UsageError: columns of objects are asked for.
    """
    check_predicate(request.predicate)
    full = [file for file in files if not file.empty]
    size = split_size(full, n_tasks, options.split_mb)
    splits = [split for file in full for split in cut(file, size, whole=False)]
    if options.form == "objects":
        if request.columns is not None or request.predicate or options.column_types:
            raise UsageError(
                'reading json: form="objects" has no columns, column_types and no predicate',
                why="records are whatever the lines hold",
                remedy='leave them out and use map and filter, or read form="columns"',
            )
        return ReadPlan(tuple(splits))
    if not full:
        return ReadPlan(())
    import pyarrow

    schema = _agreed(full, options)
    named = [*(request.columns or ()), *(column for column, _, _ in request.predicate)]
    missing = next((name for name in named if name not in schema.names), None)
    if missing is not None:
        raise not_the_format(
            full[0].path,
            f"has no column {missing!r}",
            f"the first lines of the files have {schema.names}",
            "name columns that are there; column_types declares one that comes late",
        )
    text = schema_text(schema)
    wanted = pyarrow.schema([schema.field(name) for name in request.columns or schema.names])
    described = [Split(split.label, {**split.spec, "schema": text}, split.n_bytes) for split in splits]
    return ReadPlan(tuple(described), schema=wanted)


class JsonReader(SplitReader):
    """Record batches, or lists of Python objects. Lines with nothing on them are no records."""

    def __init__(self, request: ReadRequest, splits: Sequence[Split], options: JsonReadOptions) -> None:
        super().__init__(splits)
        self._columns = request.columns
        self._predicate = request.predicate
        self._objects = options.form == "objects"
        self._block = options.block_kb * 1024

    def read_split(self, split: Split, mark: Any) -> Generator[Piece | None, None, None]:
        """Records of a split; a mark is a byte offset, in packed files after unpacking."""
        path, start, end = split.spec["path"], int(split.spec["start"]), split.spec["end"]
        rows = None if self._objects else _Rows(path, schema_of_text(split.spec["schema"]), self._columns_read())
        with reading(path), open_bytes(path, forward=end is None) as file:
            if mark is not None:
                start = int(mark)
            elif start > 0:
                start = next_line(file, start, end, self._block)
            file.seek(start)
            for block in blocks(file, start, end, self._block):
                if block is None:
                    yield None
                    continue
                offset, data = block
                yield self._piece(path, offset, data, rows)

    def _piece(self, path: str, offset: int, data: bytes, rows: _Rows | None) -> Piece | None:
        after = offset + len(data)
        if rows is None:
            values = [value for _, value in _values(path, offset, data)]
            return Piece(values, len(values), len(data), after) if values else None
        batch = rows.parsed(offset, data)
        if batch is None:
            return None
        batch = matching(batch, self._predicate, self._columns, path)
        return Piece(batch, batch.num_rows, len(data), after) if batch.num_rows else None

    def _columns_read(self) -> list[str] | None:
        return columns_to_read(self._columns, self._predicate)


class _Rows:
    """Makes record batches of the lines of one file.

    :param columns: to make; the fields of the lines must be those of the schema if None.
    """

    def __init__(self, path: str, schema: Any, columns: Sequence[str] | None) -> None:
        import pyarrow

        self._path = path
        self._strict = columns is None
        check_columns(path, columns or (), schema.names)
        self._schema = pyarrow.schema([schema.field(name) for name in columns or schema.names])
        # pyarrow reads no dates: they are read as text and converted
        self._read = pyarrow.schema([(field.name, _read_type(field.type)) for field in self._schema])
        # where fields are left out pyarrow does so in objects within objects too
        self._careful = not self._strict and any(has_objects(field.type) for field in self._schema)

    def parsed(self, offset: int, data: bytes) -> Any | None:
        """The record batch of whole lines, None when there is nothing on them.

        :raises DataFormatError: a line is no object with such fields; names it.
        """
        import pyarrow
        from pyarrow import json as arrow_json

        body = _body(self._path, offset, data)
        if not body.strip():
            return None
        if b"null" in body and (body.lstrip().startswith(b"null") or _LONE_NULL.search(body)):
            self._objects(offset, data)
        if self._careful and (wrong := self._misfit(offset, data)) is not None:
            raise wrong
        try:
            table = arrow_json.read_json(
                pyarrow.BufferReader(body),
                read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(body) + 1),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=self._read,
                    newlines_in_values=False,
                    unexpected_field_behavior="error" if self._strict else "ignore",
                ),
            )
            table = table.select(self._read.names).cast(self._schema).combine_chunks()
        except pyarrow.ArrowException as error:
            raise self._malformed(offset, data, error) from error
        n_lines = body.count(b"\n") + (not body.endswith(b"\n"))
        if table.num_rows != n_lines and table.num_rows != _n_lines(body):
            self._objects(offset, data)  # two objects on one line are refused here
        batches = table.to_batches()
        return batches[0] if batches else None  # objects without any field have no rows

    def _objects(self, offset: int, data: bytes) -> list[tuple[int, dict[str, Any]]]:
        """The objects, looked at one by one, with their offsets."""
        found = []
        for at, value in _values(self._path, offset, data):
            if not isinstance(value, dict):
                raise _bad_line(self._path, at, f"is no object: {value!r:.60}", "a row is an object", _OBJECTS)
            found.append((at, value))
        return found

    def _misfit(self, offset: int, data: bytes) -> DataFormatError | None:
        """The error for the first line that does not fit, None when all seem to."""
        for at, value in self._objects(offset, data):
            for name, each in value.items():
                number = self._schema.get_field_index(name)
                if number >= 0:
                    why = misfit(each, self._schema.field(number).type, name)
                else:
                    why = f"field {name!r} is not in the first lines of the files" if self._strict else None
                if why is not None:
                    known = f"the columns are {told(self._schema)}"
                    return _bad_line(self._path, at, f"does not fit the columns: {why}", known, _TYPES)
        return None

    def _malformed(self, offset: int, data: bytes, error: Exception) -> DataFormatError:
        """The error for the first line that is wrong; where none seems to be, what pyarrow says."""
        if (wrong := self._misfit(offset, data)) is not None:
            return wrong
        text = str(error)
        if row := re.search(r"in row (\d+)", text):
            at = next(
                (at for number, (at, _) in enumerate(self._objects(offset, data)) if number == int(row[1])), offset
            )
            return _bad_line(self._path, at, "does not fit the columns", text, _TYPES)
        return _bad_line(self._path, offset, "or one after it does not fit the columns", text, _TYPES)


def _n_lines(body: bytes) -> int:
    """Lines with something on them."""
    return sum(1 for line in body.split(b"\n") if line.strip())


def _read_type(wanted: Any) -> Any:
    import pyarrow
    from pyarrow import types

    return pyarrow.string() if types.is_date(wanted) else wanted


def _body(path: str, offset: int, data: bytes) -> bytes:
    """A block without a byte order mark, known to be UTF-8."""
    body = data.removeprefix(codecs.BOM_UTF8) if offset == 0 else data
    if not body.isascii():
        try:
            body.decode("utf-8")
        except UnicodeDecodeError as error:
            at = offset + len(data) - len(body) + error.start
            raise not_utf8(path, at, body[error.start], error.reason, "convert the file; JSON is UTF-8") from error
    return body


def _values(path: str, offset: int, data: bytes) -> Iterator[tuple[int, Any]]:
    """The values of the lines, with the offsets of those.

    :raises DataFormatError: a line holds none, or more than one.
    """
    body = _body(path, offset, data)
    at = offset + len(data) - len(body)
    for line in body.split(b"\n"):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
                shown = line[:80].decode("utf-8", "replace")
                remedy = "correct the line; each line holds one value"
                raise _bad_line(path, at, f"is not JSON: {shown!r}", why, remedy) from error
            yield at, value
        at += len(line) + 1


def _bad_line(path: str, offset: int, what: str, why: str, remedy: str) -> DataFormatError:
    number = newlines_before(path, offset) + 1
    error = not_the_format(path, f"line {number} {what}", why, remedy, f"{path}, line {number}")
    error.details.update(line=number, offset=offset)
    return error


def _agreed(files: Sequence[FoundFile], options: JsonReadOptions) -> Any:
    """The fields of the first lines of the first files."""
    import pyarrow

    found: dict[str, Any] = {}
    share = max(LEAST_GUESSED, GUESSED_BYTES // len(files[:GUESSED_FILES]))
    n_bytes = min(share, options.block_kb * 1024)
    for file in files[:GUESSED_FILES]:
        with reading(file.path), open_bytes(file.path, forward=True) as source:
            looked_at = 0
            try:
                for block in blocks(source, 0, None, n_bytes):
                    if block is not None:
                        values = [value for _, value in _values(file.path, *block)]
                        add_types(found, (value for value in values if isinstance(value, dict)))
                        looked_at += len(block[1]) if values else 0
                    if 2 * looked_at >= n_bytes:  # blocks end with a line, a little early
                        break
            except TooDeepError as error:
                remedy = 'read objects of all kinds with form="objects"'
                raise not_the_format(file.path, "has no columns", str(error), remedy) from error
            except DataFormatError as error:
                if is_broken_archive(error):
                    raise  # else the reader will say what is wrong, and where
    return pyarrow.schema(list({**found, **types_named(options.column_types)}.items()))
