"""Writing Arrow's own formats: files, whose record batches can be read one by one, and streams."""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_arrow
from twister2_data_file.arrow_copy import new_writer
from twister2_data_file.arrow_types import schema_text
from twister2_data_file.tables import TableMaker
from twister2_data_file.writing import Encoder

if TYPE_CHECKING:
    from twister2_data_file.options import ArrowWriteOptions


class ArrowEncoder(Encoder):
    """A file or a stream of record batches of ``batch_rows`` rows."""

    def __init__(self, file: IO[bytes], options: ArrowWriteOptions, where: str) -> None:
        self._file = file
        self._options = options
        self._maker = TableMaker(options.column_names, options.column_types, where)
        self._writer: Any = None
        self._held: list[Any] = []
        self._n_held = 0

    def write(self, batch: Batch) -> None:
        """Take rows; write batches that are full."""
        table = self._maker.table(_plain(batch) if is_arrow(batch) else batch)
        self._held.append(table)
        self._n_held += table.num_rows
        if self._n_held >= self._options.batch_rows:
            self._flush()

    def finish(self) -> None:
        """Write the last batch, and what ends the file."""
        self._flush()
        self._open().close()

    def schema(self) -> str:
        """The columns, as text."""
        return schema_text(self._maker.schema)

    def discard(self) -> None:
        """Close pyarrow's writer, which otherwise would write its end when it is collected."""
        if self._writer is not None:
            with contextlib.suppress(Exception):
                self._writer.close()

    def _open(self) -> Any:
        if self._writer is None:
            self._maker.freeze()
            packing = None if self._options.compression == "none" else self._options.compression
            self._writer = new_writer(self._file, self._maker.schema, stream=self._options.stream, packing=packing)
        return self._writer

    def _flush(self) -> None:
        import pyarrow

        if self._held:
            table = pyarrow.concat_tables(self._maker.fitted(table) for table in self._held).combine_chunks()
            self._held, self._n_held = [], 0
            self._open().write_table(table, max_chunksize=self._options.batch_rows)


def _plain(batch: Any) -> Any:
    """The batch without dictionaries: files have room for one per column, whatever the batches bring."""
    import pyarrow
    from pyarrow import types

    for number, field in enumerate(batch.schema):
        if types.is_dictionary(field.type):
            values = batch.column(number).cast(field.type.value_type)
            batch = batch.set_column(number, pyarrow.field(field.name, values.type), values)
    return batch
