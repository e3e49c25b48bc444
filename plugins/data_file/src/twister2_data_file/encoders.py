"""The formats as written: text, CSV, Parquet; and whatever is packed."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, cast

from twister2.spec.batch import Batch, records, text_block
from twister2.spec.errors import DataFormatError
from twister2_data_file.arrow_types import schema_text
from twister2_data_file.compression import Packer
from twister2_data_file.table_encoder import TableEncoder
from twister2_data_file.tables import TableMaker
from twister2_data_file.writing import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2_data_file.options import CsvWriteOptions, ParquetWriteOptions


class TextEncoder(Encoder):
    """One line per record: the record itself when it is a string, ``str(record)`` otherwise."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, batch: Batch) -> None:
        """Append lines."""
        text = text_block(batch)
        if text is None:
            text = "\n".join(map(str, records(batch)))
        self._file.write(text.encode("utf-8", "surrogatepass"))
        self._file.write(b"\n")

    def finish(self) -> None:
        """Text has no end."""

    def discard(self) -> None:
        """Nothing is held."""


class PackedEncoder(Encoder):
    """Another encoder, whose bytes are packed on the way to the file.

    :param make: makes it, for the file that packs.
    """

    def __init__(self, file: IO[bytes], packing: str, make: Callable[[IO[bytes]], Encoder]) -> None:
        self._packer = Packer(file, packing)
        self._inner = make(cast("IO[bytes]", self._packer))

    def write(self, batch: Batch) -> None:
        """Append records."""
        self._inner.write(batch)

    def finish(self) -> None:
        """Append the end of the content and that of the archive."""
        self._inner.finish()
        self._packer.finish()

    def schema(self) -> str:
        """That of the content."""
        return self._inner.schema()

    def discard(self) -> None:
        """Let both go."""
        self._packer.discard()
        self._inner.discard()


class CsvEncoder(Encoder):
    r"""CSV with strings in quotes, rows ended by ``\n``."""

    def __init__(self, file: IO[bytes], options: CsvWriteOptions, where: str) -> None:
        self._file = file
        self._options = options
        self._maker = TableMaker(options.column_names, options.column_types, where)
        self._begun = False
        self._where = where

    def write(self, batch: Batch) -> None:
        """Append rows."""
        self._append(self._maker.table(batch))

    def finish(self) -> None:
        """Write the header if there was no row."""
        if not self._begun and self._maker.schema.names:
            self._append(self._maker.schema.empty_table())

    def schema(self) -> str:
        """The columns, as text."""
        return schema_text(self._maker.schema)

    def discard(self) -> None:
        """Nothing is held."""

    def _append(self, table: Any) -> None:
        from pyarrow import BufferOutputStream, csv, types

        for field in table.schema:
            if types.is_nested(field.type):
                raise DataFormatError(
                    f"column {field.name!r} cannot be written as CSV: its type is {field.type}",
                    why="a field of CSV is a single text or number, not a list or a row",
                    remedy="make a text of it first (str, json.dumps), or write JSON lines or Parquet",
                    where=self._where,
                )
        options = csv.WriteOptions(
            include_header=self._options.header and not self._begun, delimiter=self._options.delimiter
        )
        if table.num_columns == 1 and table.column(0).null_count:
            # a line with nothing on it is no row to readers of CSV
            table = table.set_column(0, table.schema.names[0], table.column(0).cast("string").fill_null(""))
        sink = BufferOutputStream()
        csv.write_csv(table, sink, options)
        self._file.write(sink.getvalue())
        self._begun = True


class ParquetEncoder(TableEncoder):
    """Parquet, one row group per ``row_group_rows`` rows."""

    def __init__(self, file: IO[bytes], options: ParquetWriteOptions, where: str) -> None:
        super().__init__(options.column_names, options.column_types, where, options.row_group_rows)
        self._file, self._options = file, options

    def _open(self, schema: Any) -> Any:
        from pyarrow import parquet

        return parquet.ParquetWriter(self._file, schema, compression=self._options.compression)

    def _put(self, writer: Any, table: Any) -> None:
        writer.write_table(table, row_group_size=self._options.row_group_rows)
