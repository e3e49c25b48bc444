"""Writing Arrow's own formats: files, whose record batches can be read one by one, and streams."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_arrow
from twister2_data_file.arrow_copy import new_writer
from twister2_data_file.table_encoder import TableEncoder

if TYPE_CHECKING:
    from twister2_data_file.options import ArrowWriteOptions


class ArrowEncoder(TableEncoder):
    """A file or a stream of record batches of ``batch_rows`` rows."""

    def __init__(self, file: IO[bytes], options: ArrowWriteOptions, where: str) -> None:
        super().__init__(options.column_names, options.column_types, where, options.batch_rows)
        self._file, self._options = file, options

    def write(self, batch: Batch) -> None:
        """Take rows; write batches that are full."""
        super().write(_plain(batch) if is_arrow(batch) else batch)

    def _open(self, schema: Any) -> Any:
        packing = None if self._options.compression == "none" else self._options.compression
        return new_writer(self._file, schema, stream=self._options.stream, packing=packing)

    def _put(self, writer: Any, table: Any) -> None:
        writer.write_table(table.combine_chunks(), max_chunksize=self._options.batch_rows)


def _plain(batch: Any) -> Any:
    """The batch without dictionaries: files have room for one per column, whatever the batches bring."""
    import pyarrow
    from pyarrow import types

    for number, field in enumerate(batch.schema):
        if types.is_dictionary(field.type):
            values = batch.column(number).cast(field.type.value_type)
            batch = batch.set_column(number, pyarrow.field(field.name, values.type), values)
    return batch
