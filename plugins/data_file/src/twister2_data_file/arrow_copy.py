"""Arrow files and streams as a whole: telling them apart, making them, copying them with other types."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_MAGIC = b"ARROW1"


def new_writer(file: IO[bytes], schema: Any, *, stream: bool, packing: str | None) -> Any:
    """Pyarrow's writer of a file or a stream; ``packing`` is that of the columns."""
    from pyarrow import ipc

    make = ipc.new_stream if stream else ipc.new_file
    return make(file, schema, options=ipc.IpcWriteOptions(compression=packing))


def batches_of(file: IO[bytes]) -> tuple[bool, Any, Iterator[Any]]:
    """Whether an open file is a stream, its schema, and its record batches."""
    from pyarrow import ipc

    is_file = file.read(len(FILE_MAGIC)) == FILE_MAGIC
    file.seek(0)
    if not is_file:
        stream = ipc.open_stream(file)
        return True, stream.schema, iter(stream)
    reader = ipc.open_file(file)
    return False, reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))


def copy_arrow(old: IO[bytes], new: IO[bytes], schema: Any) -> None:
    """Copy a file or stream with other types."""
    import pyarrow

    stream, _, batches = batches_of(old)
    with new_writer(new, schema, stream=stream, packing=None) as writer:
        for batch in batches:
            writer.write_table(pyarrow.Table.from_batches([batch]).select(schema.names).cast(schema))


def arrow_rows(file: IO[bytes]) -> int:
    """Rows of a file or stream."""
    return sum(int(batch.num_rows) for batch in batches_of(file)[2])
