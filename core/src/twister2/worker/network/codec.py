"""Batches to frames and back.

Numpy arrays (structured ones too), tuples of them and Arrow record batches travel as their raw memory; what describes
them, the *head*, is apart, so that a channel sends it only when it changes. Everything else goes by pickle protocol 5,
whose large buffers (arrays inside lists) travel beside the pickle without a copy; types given to
:func:`register_serializer` are written by their own serialiser wherever they occur. What is decoded are read-only views
of the received frames.
"""

from __future__ import annotations

import copyreg
import functools
import gc
import io
import pickle
import sys
import traceback
from collections import ChainMap
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Buffer, freeze, is_arrow
from twister2.spec.errors import NetworkError, SerializationError, UsageError, UserCodeError
from twister2.spec.tracebacks import short, user_line, user_traceback
from twister2.worker.network.arrow import decode_batch, encode_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.spec.network import Codec

NOTHING, ARRAY, PICKLE, COLUMNS, ARROW = 0, 1, 2, 3, 4
"""How a value is encoded; travels in the header."""

MIN_BUFFER = 16 * 1024
"""Buffers inside objects that are smaller than this stay in the pickle: a frame of their own would cost more."""

MAX_BUFFERS = 1000
"""More large buffers than this in one value go into the pickle after all: transports pay per frame."""

_SCALARS = frozenset((int, float, bool, complex, str, bytes, type(None)))
_LARGE = 1 << 15
"""Pickles from so many bytes on are built without the collector of cycles."""
_SHORT = 32
_FEW = 16
_STRUCTURED = b"\0"
"""First byte of the head of a structured array; others begin with a dtype's name."""

Encoded = tuple[int, bytes, list[Buffer], int]
"""Kind of encoding, description, buffers, bytes in the buffers."""

_EMPTY: Encoded = (NOTHING, b"", [], 0)
_registered: dict[type, Codec] = {}
_by_name: dict[str, Codec] = {}
_reducers: dict[type, Callable[[Any], Any]] = {}
_array_heads: dict[Any, bytes] = {}
_array_forms: dict[bytes, tuple[Any, tuple[int, ...]]] = {}


def register_serializer(kind: type, codec: Codec) -> None:
    """Write values of ``kind`` with ``codec`` wherever they occur in a batch.

    Call it on every worker, at import of the module that defines the type. ``encode(value)`` gives the value as

    * one ``bytes`` (or another object with a buffer): ``decode(data)`` gets it as ``bytes``;
    * a list of such buffers: ``decode(buffers)`` gets a list of as many read-only ``memoryview``, in that order. Large
      ones are not copied on the way; what is decoded may keep them.

    What ``encode`` or ``decode`` raises is a UserCodeError with its traceback.

    :param kind: the class of the values; its subclasses are registered by themselves. :param codec: an object with
        ``encode`` and ``decode``, not its class.
    :raises UsageError: ``kind`` is no type, or ``codec`` a class, or without ``encode`` and ``decode`` to be called.
    """
    usable: object = kind  # callers need not check types
    if not isinstance(usable, type) or isinstance(codec, type) or not _is_codec(codec):
        given = f"the class {codec.__name__}" if isinstance(codec, type) else f"an object of {type(codec)}"
        raise UsageError(
            "register_serializer needs a type and a codec",
            why=f"got {kind!r} and {given}",
            remedy="pass the class of the values, and an object (of a class, PointCodec()) with encode(value) and "
            "decode(data)",
        )
    name = _name_of(kind)
    _registered[kind] = codec
    _by_name[name] = codec

    def reduce(value: Any) -> Any:
        parts = _parts_of(codec, name, value)
        if isinstance(parts, list):
            return _rebuild, (name, *[pickle.PickleBuffer(part) for part in parts])
        return _rebuild_one, (name, pickle.PickleBuffer(parts))

    _reducers[kind] = reduce


def _is_codec(codec: object) -> bool:
    return callable(getattr(codec, "encode", None)) and callable(getattr(codec, "decode", None))


def _parts_of(codec: Codec, name: str, value: Any) -> memoryview | list[memoryview]:
    """What a codec makes of a value: one buffer or several.

    :raises UserCodeError: it raised, or gave something else.
    """
    try:
        given: object = codec.encode(value)
    except Exception as error:
        raise _codec_failed(codec, name, "encode", error) from error
    try:
        if isinstance(given, (list, tuple)):
            return [memoryview(part) for part in given]
        return memoryview(given)  # type: ignore[arg-type]
    except TypeError as error:
        raise UserCodeError(
            f"encode of {type(codec).__name__}, the serialiser of {name}, gave no bytes",
            why=f"it gave {short(given, 80)}: {error}",
            remedy="let it return bytes, or a list of buffers (bytes, memoryview, contiguous array)",
        ) from None


def _codec_failed(codec: Codec, name: str, doing: str, error: Exception) -> UserCodeError:
    return UserCodeError(
        f"{doing} of {type(codec).__name__}, the serialiser of {name}, raised {type(error).__name__}",
        why=str(error) or "no message",
        remedy="mend it; decode gets bytes where encode gave one buffer, and a list of buffers where it gave a list",
        where=user_line(error),
        details={"traceback": user_traceback(error), "type": type(error).__name__},
    )


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _rebuild(name: str, *buffers: Any) -> Any:
    return _decoded(name, [memoryview(part).toreadonly() for part in buffers])


def _rebuild_one(name: str, data: Any) -> Any:
    return _decoded(name, bytes(data))


def _decoded(name: str, data: Any) -> Any:
    codec = _by_name.get(name)
    if codec is None:
        raise SerializationError(
            f"a value of type {name} came in, and no serialiser for it is registered here",
            why="register_serializer was called on the sending worker, not on this one",
            remedy="call twister2.register_serializer at import of the module that defines the type",
        )
    try:
        return codec.decode(data)
    except Exception as error:
        raise _codec_failed(codec, name, "decode", error) from error


def encode(value: Any) -> Encoded:
    """A value as buffers that share its memory where they can.

    :raises SerializationError: it cannot be pickled; names the first record that cannot.
    :raises UserCodeError: a registered serialiser failed.
    """
    if value is None:
        return _EMPTY
    numpy = sys.modules.get("numpy")
    array = getattr(numpy, "ndarray", None)  # None also while another thread is in the middle of importing it
    if array is not None and array not in _registered:
        encoded = None
        if type(value) is array:
            encoded = _encode_array(value)
        elif type(value) is tuple and 0 < len(value) <= MAX_BUFFERS and type(value[0]) is array:
            encoded = _encode_columns(value, numpy)
        if encoded is not None:
            return encoded
    if is_arrow(value) and type(value) not in _registered:
        batch = encode_batch(value)
        if batch is not None:
            return (ARROW, *batch)
        value = _compact(value)
    return _encode_object(value)


def _encode_array(array: Any) -> Encoded | None:
    dtype = array.dtype
    if dtype in _array_heads:
        head = _array_heads[dtype]
    else:
        head = _head_of(dtype)
        if len(_array_heads) > MAX_BUFFERS:
            _array_heads.clear()
        if dtype.names is None:  # dtypes that differ in titles or metadata only are equal
            _array_heads[dtype] = head
    if not head:
        return None
    flags = array.flags
    if not flags.c_contiguous:
        array = array.copy(order="C")
    size = array.nbytes
    # datetime64 and unicode arrays do not export the buffer protocol: look at their bytes
    data = memoryview(array.reshape(-1).view("u1")) if size else b""
    shape = repr(array.shape).encode("ascii")
    return ARRAY, shape + head if head[:1] == _STRUCTURED else head + shape, [data], size


def _head_of(dtype: Any) -> bytes:
    if dtype.hasobject or dtype.subdtype is not None:
        return b""
    if dtype.names is not None:
        return _STRUCTURED + pickle.dumps(dtype, 5)
    return dtype.str.encode("ascii") if dtype.kind in "biufcSUMm" else b""


def _encode_columns(columns: Any, numpy: Any) -> Encoded | None:
    """A tuple of arrays."""
    heads, buffers, size = [], [], 0
    for column in columns:
        encoded = _encode_array(column) if type(column) is numpy.ndarray else None
        if encoded is None:
            return None
        _, head, data, nbytes = encoded
        heads.append(len(head).to_bytes(4, "little") + head)
        buffers += data
        size += nbytes
    return COLUMNS, b"".join(heads), buffers, size


def _compact(batch: Any) -> Any:
    """A slice of an Arrow batch keeps the whole buffers alive and would send them: copy what is seen of it."""
    if batch.get_total_buffer_size() <= batch.nbytes + batch.nbytes // 8 + 4096:
        return batch
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write(batch)
    table = pyarrow.ipc.open_stream(sink.getvalue()).read_all()
    if isinstance(batch, pyarrow.Table):
        return table
    batches = table.combine_chunks().to_batches()
    if batches:
        return batches[0]
    columns = [column.combine_chunks() for column in batch.schema.empty_table().columns]  # a slice would keep it all
    return pyarrow.RecordBatch.from_arrays(columns, schema=batch.schema)


def _encode_object(value: Any) -> Encoded:
    buffers: list[Buffer] = []
    size = 0

    def keep(buffer: pickle.PickleBuffer) -> bool:
        nonlocal size
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous in any order
            return True
        if view.nbytes < MIN_BUFFER or len(buffers) >= MAX_BUFFERS:
            return True
        buffers.append(view)
        size += view.nbytes
        return False

    try:
        data = _dump(value, keep)
    except RecursionError as error:
        raise _not_serializable(value, error) from error
    except UserCodeError:  # of a registered serialiser
        raise
    except Exception as first:
        buffers.clear()
        size = 0
        try:
            data = _dump_by_value(value, keep)
        except UserCodeError:
            raise
        except Exception:
            raise _not_serializable(value, first) from first
    return PICKLE, b"", [data, *buffers], size + len(data)


def _dump(value: Any, keep: Callable[[pickle.PickleBuffer], Any]) -> bytes:
    if _looks_plain(value):
        try:
            return _pickle(value, keep, fast=True)
        except ValueError:  # a record among them that contains itself
            pass
    if not _registered:
        return pickle.dumps(value, 5, buffer_callback=keep)
    return _pickle(value, keep)


def _pickle(value: Any, keep: Callable[[pickle.PickleBuffer], Any], *, fast: bool = False) -> bytes:
    out = io.BytesIO()
    pickler = pickle.Pickler(out, 5, buffer_callback=keep)
    pickler.fast = fast
    if _registered:
        pickler.dispatch_table = ChainMap(_reducers, copyreg.dispatch_table)  # type: ignore[arg-type]
    pickler.dump(value)
    return out.getvalue()


def _looks_plain(value: Any) -> bool:
    """Whether some records of a list, and so perhaps all, are scalars or short tuples of scalars.

    Such lists are pickled without the memo that finds an object again that was written before: 1.4 times as fast. If
    other records are among them nothing breaks, objects that occur in several of them just arrive as several objects.
    """
    if type(value) is not list or len(value) < _FEW:
        return False
    last = len(value) - 1
    for at in (0, last // 3, last // 2, last):
        record = value[at]
        parts = record if type(record) is tuple else (record,)
        if len(parts) > _FEW:
            return False
        for part in parts:
            kind = type(part)
            if kind not in _SCALARS or ((kind is str or kind is bytes) and len(part) > _SHORT):
                return False
    return True


def _dump_by_value(value: Any, keep: Callable[[pickle.PickleBuffer], Any]) -> bytes:
    """Functions and classes of a notebook or of ``__main__`` have no module to be found in: cloudpickle sends them."""
    out = io.BytesIO()
    _by_value()(out, 5, buffer_callback=keep).dump(value)
    return out.getvalue()


@functools.cache
def _by_value() -> Any:
    """The pickler of cloudpickle, with the registered serialisers."""
    import cloudpickle

    table = ChainMap(_reducers, cloudpickle.Pickler.dispatch_table)
    return type("Pickler", (cloudpickle.Pickler,), {"dispatch_table": table})


def _dump_either(value: Any) -> None:
    try:
        _dump(value, lambda _: True)
    except Exception:
        _dump_by_value(value, lambda _: True)


def _not_serializable(value: Any, cause: BaseException) -> SerializationError:
    where, record = "", value
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            try:
                _dump_either(item)
            except Exception:
                where, record = f"record {index} of a batch of {len(value)}", item
                break
    return SerializationError(
        f"a value of type {_name_of(type(record))} cannot be sent to another worker",
        why=f"{type(cause).__name__}: {cause}",
        remedy="send plain data (numbers, text, tuples, arrays), or call twister2.register_serializer(type, codec)",
        where=f"{where}: {short(record)}" if where else short(record),
        details={"traceback": "".join(traceback.format_exception(cause))},
    )


def decode(kind: int, head: bytes, buffers: Sequence[memoryview]) -> Any:
    """The value again; arrays are read-only views of the buffers.

    :raises NetworkError: the bytes are not what :func:`encode` made.
    :raises SerializationError: the bytes are whole, but the value cannot be rebuilt here (a module is missing...).
    :raises UserCodeError: a registered serialiser failed.
    """
    if kind == NOTHING:
        return None
    if kind == ARRAY and len(buffers) == 1:
        return _decode_array(head, buffers[0])
    if kind == COLUMNS:
        return _decode_columns(head, buffers)
    if kind == ARROW:
        return _decode_arrow(head, buffers)
    if kind != PICKLE or not buffers:
        raise _damaged(f"encoding {kind} with {len(buffers)} buffers is not known")
    try:
        return _load(buffers)
    except (SerializationError, UserCodeError):
        raise
    except Exception as error:
        raise SerializationError(
            "a value that another worker sent cannot be rebuilt here",
            why=f"{type(error).__name__}: {error}",
            remedy="check that the modules of its classes can be imported on every worker, in the same version",
            details={"traceback": traceback.format_exc()},
        ) from error


def _load(buffers: Sequence[memoryview]) -> Any:
    """A pickled value; the collector of cycles rests while a large one is built: all of it is in use, and looking at it
    again and again would take a fifth of the time. If it is due then it looks once, at what is still in the cache, and
    leaves it to the oldest generation: the next looks would come when it has left the cache. Now and then it is left to
    itself: that alone is when it comes to the oldest generation, too, where cycles of batches that were dropped are.
    """
    pause = buffers[0].nbytes >= _LARGE and gc.isenabled()
    if not pause:
        return pickle.loads(buffers[0], buffers=buffers[1:])
    gc.disable()
    try:
        value = pickle.loads(buffers[0], buffers=buffers[1:])
        young, middle, old = gc.get_count()
        due, _, late = gc.get_threshold()
        if 0 < due < young and (middle or not old or old % (late + 1)):
            gc.collect(1)
    finally:
        gc.enable()
    return value


def _decode_array(head: bytes, data: memoryview) -> Any:
    import numpy

    try:
        known = _array_forms.get(head)
        if known is None:
            if len(_array_forms) > MAX_BUFFERS:
                _array_forms.clear()
            known = _array_forms[head] = _form_of(numpy, head)
        dtype, shape = known
        array = numpy.frombuffer(data, dtype) if data.nbytes else numpy.empty(shape, dtype)
        if not array.flags.aligned:
            array = array.copy()
        return freeze(array.reshape(shape))
    except (ValueError, TypeError, UnicodeDecodeError, pickle.UnpicklingError, EOFError) as error:
        raise _damaged(str(error)) from error


def _form_of(numpy: Any, head: bytes) -> tuple[Any, tuple[int, ...]]:
    if head[:1] == b"(":
        text, _, described = head.partition(_STRUCTURED)
        dtype = pickle.loads(described)
        if not isinstance(dtype, numpy.dtype):
            raise ValueError("what describes an array is no dtype")
    else:
        name, _, text = head.partition(b"(")
        dtype = numpy.dtype(name.decode("ascii"))
    return dtype, tuple(int(part) for part in text.strip(b"()").split(b",") if part)


def _decode_columns(head: bytes, buffers: Sequence[memoryview]) -> Any:
    columns, at = [], 0
    for data in buffers:
        size = int.from_bytes(head[at : at + 4], "little")
        columns.append(_decode_array(head[at + 4 : at + 4 + size], data))
        at += 4 + size
    if at != len(head) or not columns:
        raise _damaged(f"{len(buffers)} columns do not fit their description of {len(head)} bytes")
    return tuple(columns)


def _decode_arrow(head: bytes, buffers: Sequence[memoryview]) -> Any:
    try:
        return decode_batch(head, buffers)
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error


def _damaged(why: str) -> NetworkError:
    return NetworkError(
        "a message that came in is damaged",
        why=why,
        remedy="check that all workers run the same version; if they do, the network or the memory is at fault",
    )
