"""Arrow record batches to buffers and back, with the schema apart from the data.

Small batches, parts of larger ones and nested columns are written as one IPC message, which copies what is seen of
them. The buffers of large flat columns travel as they lie in memory.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.batch import Buffer

MIN_APART = 256 * 1024
"""Batches of fewer bytes are copied into one message: many small buffers would cost more."""

_LENGTH = struct.Struct("<q")
_MANY = 1000
_IPC, _APART, _NO = 0, 1, 2
"""How batches of a schema may travel: as IPC messages only, with their buffers apart, or not in these ways."""

_known: dict[bytes, tuple[Any, int]] = {}
"""By serialised schema: schema and how it may travel."""


def encode_batch(batch: Any) -> tuple[bytes, list[Buffer], int] | None:
    """Schema, buffers and their size in bytes; None for what is no record batch or needs more than this format holds.

    A single buffer is an IPC message. Of several, the first has the number of rows, for every column the number of
    nulls and of buffers, and for every buffer whether it is there.
    """
    pyarrow = sys.modules["pyarrow"]
    if type(batch) is not pyarrow.RecordBatch:
        return None
    head: bytes = batch.schema.serialize().to_pybytes()
    form = _schema_of(head)[1]
    if form == _NO:
        return None
    if form == _APART and batch.nbytes >= MIN_APART:
        apart = _apart(batch)
        if apart is not None:
            return (head, *apart)
    data = memoryview(batch.serialize())
    return head, [data], data.nbytes


def _apart(batch: Any) -> tuple[list[Buffer], int] | None:
    meta = [_LENGTH.pack(batch.num_rows)]
    buffers: list[Buffer] = [b""]
    size = 0
    for column in batch.columns:
        if column.offset:
            return None
        parts = column.buffers()
        meta.append(_LENGTH.pack(column.null_count))
        meta.append(bytes([len(parts), *(part is not None for part in parts)]))
        for part in parts:
            if part is not None:
                buffers.append(memoryview(part))
                size += part.size
    if size > batch.nbytes + batch.nbytes // 8 + 4096:
        return None  # the beginning of a larger batch: what is behind it would travel too
    buffers[0] = b"".join(meta)
    return buffers, size + len(buffers[0])


def decode_batch(head: bytes, buffers: Sequence[memoryview]) -> Any:
    """The record batch, whose columns lie in the buffers.

    :raises ValueError: the bytes are not what :func:`encode_batch` made (also other exceptions of pyarrow, which are
        subclasses of it).
    """
    import pyarrow

    schema, form = _schema_of(head)
    if form == _NO or not buffers:
        raise ValueError(f"a record batch in {len(buffers)} buffers")
    meta = buffers[0]
    if len(buffers) == 1:
        return pyarrow.ipc.read_record_batch(_aligned(pyarrow, meta), schema)
    try:
        (n_rows,) = _LENGTH.unpack_from(meta)
        at, left = _LENGTH.size, iter(buffers[1:])
        columns = []
        for field in schema:
            (nulls,) = _LENGTH.unpack_from(meta, at)
            at += _LENGTH.size
            there = meta[at + 1 : at + 1 + meta[at]]
            at += 1 + meta[at]
            parts = [_aligned(pyarrow, next(left)) if present else None for present in there]
            columns.append(pyarrow.Array.from_buffers(field.type, n_rows, parts, nulls))
            columns[-1].validate()
    except (struct.error, IndexError, StopIteration) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return pyarrow.RecordBatch.from_arrays(columns, schema=schema)


def _aligned(pyarrow: Any, data: memoryview) -> Any:
    buffer = pyarrow.py_buffer(data)
    return pyarrow.py_buffer(bytes(data)) if buffer.address % 8 else buffer


def _schema_of(head: bytes) -> tuple[Any, int]:
    known = _known.get(head)
    if known is None:
        import pyarrow

        schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(head))
        forms = {_form(pyarrow, field.type) for field in schema}
        if len(_known) > _MANY:
            _known.clear()
        form = _NO if _NO in forms else _APART if forms == {_APART} else _IPC
        known = _known[head] = (schema, form)
    return known


def _form(pyarrow: Any, kind: Any) -> int:
    types = pyarrow.types
    if isinstance(kind, pyarrow.BaseExtensionType) or types.is_dictionary(kind):
        return _NO  # their dictionaries and registered classes are not in a batch's message
    if types.is_primitive(kind) or types.is_boolean(kind) or types.is_decimal(kind):
        return _APART
    if any(
        is_one(kind) for is_one in (types.is_string, types.is_binary, types.is_large_string, types.is_large_binary)
    ) or types.is_fixed_size_binary(kind):
        return _APART
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_struct(kind):
        inner = [_form(pyarrow, kind.field(index).type) for index in range(kind.num_fields)]
        return _NO if _NO in inner else _IPC
    return _IPC if types.is_null(kind) else _NO
