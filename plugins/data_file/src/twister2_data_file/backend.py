"""The backend: planning, readers, writers and commits for all formats."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import attrs

from twister2.spec.data import DataBackend, Reader, ReadPlan, ReadRequest, Split, Writer, WriteRequest
from twister2.spec.errors import UsageError
from twister2.spec.uris import without_secrets
from twister2_data_file.compression import SUFFIXES, packing_of
from twister2_data_file.config import FileConfig
from twister2_data_file.inputs import cut, find_files, split_size
from twister2_data_file.layout import Layout
from twister2_data_file.options import (
    ArrowReadOptions,
    ArrowWriteOptions,
    BinaryReadOptions,
    BinaryWriteOptions,
    CsvReadOptions,
    CsvWriteOptions,
    JsonReadOptions,
    JsonWriteOptions,
    ParquetReadOptions,
    ParquetWriteOptions,
    TableWriteOptions,
    TextReadOptions,
    TextWriteOptions,
    WriteOptions,
    checked,
)
from twister2_data_file.problems import writing
from twister2_data_file.writing import Encoder, PartWriter, commit_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2_data_file.stores import FoundFile

_READ: dict[str, type] = {
    "text": TextReadOptions,
    "csv": CsvReadOptions,
    "json": JsonReadOptions,
    "parquet": ParquetReadOptions,
    "arrow": ArrowReadOptions,
    "binary": BinaryReadOptions,
}
_WRITE: dict[str, type[WriteOptions]] = {
    "text": TextWriteOptions,
    "csv": CsvWriteOptions,
    "json": JsonWriteOptions,
    "parquet": ParquetWriteOptions,
    "arrow": ArrowWriteOptions,
    "binary": BinaryWriteOptions,
}
_ENDINGS = {"text": "txt", "csv": "csv", "json": "jsonl", "parquet": "parquet", "arrow": "arrow", "binary": "bin"}


@attrs.frozen
class FileBackend(DataBackend):
    """Files, local or through fsspec. Keeps no state; any thread may use it."""

    config: FileConfig = attrs.field(factory=FileConfig)

    formats = ("text", "csv", "json", "parquet", "arrow", "binary")
    schemes = ("", "file", "memory", "s3", "gs", "abfs", "hdfs", "http", "https")

    def plan(self, request: ReadRequest, n_tasks: int) -> ReadPlan:
        """List the files and cut them: by bytes, row groups or record batches; packed ones not at all."""
        options = self._read_options(request)
        plan = _planner(request.format)
        return plan(request, find_files(request.uris), n_tasks, options)

    def open(self, request: ReadRequest, splits: Sequence[Split]) -> Reader:
        """A reader; opens nothing yet."""
        return _reader(request, splits, self._read_options(request))

    def create_writer(self, request: WriteRequest) -> Writer:
        """A writer; creates its temporary file with the first batch."""
        options = self._write_options(request)
        packing = _packing(request, options)
        layout = _layout(request, options, packing)
        with writing(layout.target):
            layout.check_free(overwrite=options.overwrite)
        known = isinstance(options, TableWriteOptions) and options.column_names is not None
        return PartWriter(layout, _encoder_maker(options, layout.shown, packing), columns_known=known)

    def commit(self, request: WriteRequest, committables: Sequence[Any]) -> None:
        """Rename the parts into place (copy in stores without a rename)."""
        options = self._write_options(request)
        layout = _layout(request, options, _packing(request, options))
        commit_parts(layout, committables, overwrite=options.overwrite)

    def _read_options(self, request: ReadRequest) -> Any:
        cls = _of_format(_READ, request.format)
        return checked(cls, request.options, f"reading {request.format}", self.config)

    def _write_options(self, request: WriteRequest) -> WriteOptions:
        cls = _of_format(_WRITE, request.format)
        options: WriteOptions = checked(cls, request.options, f"writing {request.format}")
        return options


def _of_format(classes: dict[str, type[Any]], name: str) -> type[Any]:
    if name not in classes:
        raise UsageError(
            f"no format {name!r}", why=f"data plugin 'file' has {', '.join(classes)}", remedy="use one of them"
        )
    return classes[name]


def _plan_text(request: ReadRequest, files: Sequence[FoundFile], n_tasks: int, options: TextReadOptions) -> ReadPlan:
    if request.columns is not None or request.predicate:
        raise UsageError("text has no columns", why="its records are lines", remedy="read csv or parquet, or filter")
    size = split_size(files, n_tasks, options.split_mb)
    # Whether a file is left out is known only when all of it was looked at: then one task reads it.
    whole = options.on_decode_error == "skip"
    return ReadPlan(tuple(split for file in files for split in cut(file, size, whole=whole)))


def _planner(form: str) -> Callable[..., ReadPlan]:
    if form == "csv":
        from twister2_data_file.csv_input import plan_csv

        return plan_csv
    if form == "json":
        from twister2_data_file.json_input import plan_json

        return plan_json
    if form == "parquet":
        from twister2_data_file.parquet_input import plan_parquet

        return plan_parquet
    if form == "arrow":
        from twister2_data_file.arrow_input import plan_arrow

        return plan_arrow
    if form == "binary":
        from twister2_data_file.binary_input import plan_binary

        return plan_binary
    return _plan_text


def _reader(request: ReadRequest, splits: Sequence[Split], options: Any) -> Reader:
    if request.format == "csv":
        from twister2_data_file.csv_input import CsvReader

        return CsvReader(request, splits, options)
    if request.format == "json":
        from twister2_data_file.json_input import JsonReader

        return JsonReader(request, splits, options)
    if request.format == "parquet":
        from twister2_data_file.parquet_input import ParquetReader

        return ParquetReader(request, splits, options)
    if request.format == "arrow":
        from twister2_data_file.arrow_input import ArrowReader

        return ArrowReader(request, splits, options)
    if request.format == "binary":
        from twister2_data_file.binary_input import BinaryReader

        return BinaryReader(splits, options)
    from twister2_data_file.text import TextReader

    return TextReader(splits, options)


def _packing(request: WriteRequest, options: WriteOptions) -> str | None:
    """How output is packed as a whole; files are read as their names say, so the name of a single one decides.

    :raises UsageError: the option says something else than the name.
    """
    if isinstance(options, (ParquetWriteOptions, ArrowWriteOptions)):
        return None  # they pack what is in them
    given = getattr(options, "compression", None)
    by_name = packing_of(request.uri) if options.single_file else None
    wanted = by_name if given is None else None if given == "none" else str(given)
    if options.single_file and wanted != by_name:
        raise UsageError(
            f"writing {request.format}: compression={given!r} does not go with the name {without_secrets(request.uri)}",
            why="a file is unpacked, or not, by the end of its name when it is read",
            remedy=f"let the name end in {SUFFIXES[wanted]}" if wanted else "give the file another name",
        )
    return wanted


def _layout(request: WriteRequest, options: WriteOptions, packing: str | None) -> Layout:
    stream = isinstance(options, ArrowWriteOptions) and options.stream
    ending = f".{_ENDINGS[request.format]}{'s' if stream else ''}{SUFFIXES[packing] if packing else ''}"
    return Layout(request, single_file=options.single_file, ending=ending)


def _encoder_maker(options: WriteOptions, where: str, packing: str | None) -> Callable[[IO[bytes]], Encoder]:
    if packing is None:
        return lambda file: _encoder(file, options, where)
    from twister2_data_file.encoders import PackedEncoder

    return lambda file: PackedEncoder(file, packing, lambda packed: _encoder(packed, options, where))


def _encoder(file: IO[bytes], options: WriteOptions, where: str) -> Encoder:
    from twister2_data_file import encoders

    if isinstance(options, CsvWriteOptions):
        return encoders.CsvEncoder(file, options, where)
    if isinstance(options, ParquetWriteOptions):
        return encoders.ParquetEncoder(file, options, where)
    if isinstance(options, JsonWriteOptions):
        from twister2_data_file.json_output import JsonEncoder

        return JsonEncoder(file, options, where)
    if isinstance(options, ArrowWriteOptions):
        from twister2_data_file.arrow_output import ArrowEncoder

        return ArrowEncoder(file, options, where)
    if isinstance(options, BinaryWriteOptions):
        from twister2_data_file.binary_output import BinaryEncoder

        return BinaryEncoder(file, options, where)
    return encoders.TextEncoder(file)
