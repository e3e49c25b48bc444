"""The backend: planning, readers, writers and commits for all formats."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import attrs

from twister2.spec.data import DataBackend, Reader, ReadPlan, ReadRequest, Split, Writer, WriteRequest
from twister2.spec.errors import UsageError
from twister2_data_file.config import FileConfig
from twister2_data_file.inputs import cut, find_files, split_size
from twister2_data_file.layout import Layout
from twister2_data_file.options import (
    CsvReadOptions,
    CsvWriteOptions,
    ParquetReadOptions,
    ParquetWriteOptions,
    TableWriteOptions,
    TextReadOptions,
    TextWriteOptions,
    checked,
)
from twister2_data_file.problems import writing
from twister2_data_file.writing import Encoder, PartWriter, commit_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2_data_file.stores import FoundFile

_READ: dict[str, type] = {"text": TextReadOptions, "csv": CsvReadOptions, "parquet": ParquetReadOptions}
_WRITE: dict[str, type[TextWriteOptions]] = {
    "text": TextWriteOptions,
    "csv": CsvWriteOptions,
    "parquet": ParquetWriteOptions,
}


@attrs.frozen
class FileBackend(DataBackend):
    """Files, local or through fsspec. Keeps no state; any thread may use it."""

    config: FileConfig = attrs.field(factory=FileConfig)

    formats = ("text", "csv", "parquet")
    schemes = ("", "file", "memory", "s3", "gs", "abfs", "hdfs", "http", "https")

    def plan(self, request: ReadRequest, n_tasks: int) -> ReadPlan:
        """List the files and cut them: text by bytes, Parquet by row groups, gzip and CSV with newlines not at all."""
        options = self._read_options(request)
        files = find_files(request.uris)
        if request.format == "csv":
            from twister2_data_file.csv_input import plan_csv

            return plan_csv(request, files, n_tasks, options)
        if request.format == "parquet":
            from twister2_data_file.parquet_input import plan_parquet

            return plan_parquet(request, files, n_tasks, options)
        return _plan_text(request, files, n_tasks, options)

    def open(self, request: ReadRequest, splits: Sequence[Split]) -> Reader:
        """A reader; opens nothing yet."""
        options = self._read_options(request)
        if request.format == "csv":
            from twister2_data_file.csv_input import CsvReader

            return CsvReader(request, splits, options)
        if request.format == "parquet":
            from twister2_data_file.parquet_input import ParquetReader

            return ParquetReader(request, splits, options)
        from twister2_data_file.text import TextReader

        return TextReader(splits, options)

    def create_writer(self, request: WriteRequest) -> Writer:
        """A writer; creates its temporary file with the first batch."""
        options = self._write_options(request)
        layout = Layout(request, single_file=options.single_file)
        with writing(layout.target):
            layout.check_free(overwrite=options.overwrite)
        known = isinstance(options, TableWriteOptions) and options.column_names is not None
        return PartWriter(layout, _encoder_maker(options, layout.target), columns_known=known)

    def commit(self, request: WriteRequest, committables: Sequence[Any]) -> None:
        """Rename the parts into place (copy in stores without a rename)."""
        options = self._write_options(request)
        commit_parts(Layout(request, single_file=options.single_file), committables, overwrite=options.overwrite)

    def _read_options(self, request: ReadRequest) -> Any:
        cls = _of_format(_READ, request.format)
        return checked(cls, request.options, f"reading {request.format}", self.config)

    def _write_options(self, request: WriteRequest) -> TextWriteOptions:
        cls = _of_format(_WRITE, request.format)
        options: TextWriteOptions = checked(cls, request.options, f"writing {request.format}")
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


def _encoder_maker(options: TextWriteOptions, where: str) -> Callable[[IO[bytes]], Encoder]:
    from twister2_data_file import encoders

    if isinstance(options, CsvWriteOptions):
        csv_options = options
        return lambda file: encoders.CsvEncoder(file, csv_options, where)
    if isinstance(options, ParquetWriteOptions):
        parquet_options = options
        return lambda file: encoders.ParquetEncoder(file, parquet_options, where)
    return encoders.TextEncoder
