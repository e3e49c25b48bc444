"""Options of one read or write, checked: unknown names, wrong values; all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from attrs.validators import and_, deep_iterable, deep_mapping, ge, gt, in_, instance_of, le, max_len, min_len, optional

from twister2.spec.errors import UsageError
from twister2.spec.names import did_you_mean

if TYPE_CHECKING:
    from twister2_data_file.config import FileConfig

T = TypeVar("T")
MIB = 1 << 20

_Check = Callable[[Any, Any, Any], Any]
_FLAG: _Check = instance_of(bool)
_ONE_CHAR: _Check = and_(instance_of(str), min_len(1), max_len(1))
_NAMES: _Check = optional(deep_iterable(instance_of(str), instance_of((list, tuple))))
_TYPES: _Check = deep_mapping(instance_of(str), instance_of(str), instance_of(dict))
_SIZE: list[_Check] = [instance_of((int, float)), gt(0)]
_COUNT: list[_Check] = [instance_of(int), gt(0)]
_PACKING: _Check = optional(in_(("none", "gzip", "bz2", "xz", "zstd")))
_RECORD: _Check = optional(and_(instance_of(int), gt(0)))
_BLOCK: list[_Check] = [instance_of(int), ge(1), le(1 << 20)]


def _dtype(_: Any, __: Any, value: Any) -> None:
    if value is not None:
        record_type(value)


_DTYPE: _Check = _dtype


def record_type(given: Any) -> Any:
    """The numpy type of a binary record. Lists stand for tuples too, as in JSON.

    :raises ValueError: it is none, or not one of a fixed number of bytes.
    """
    import numpy

    fields = isinstance(given, (list, tuple)) and all(isinstance(field, (list, tuple)) for field in given)
    try:
        found = numpy.dtype([tuple(field) for field in given] if fields else given)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"'dtype' is no type of numpy: {error}") from error
    if found.hasobject or found.itemsize == 0:
        raise ValueError("'dtype' must have a fixed number of bytes")
    return found


@attrs.frozen(kw_only=True)
class TextReadOptions:
    """Options of reading ``text``."""

    on_decode_error: str = attrs.field(validator=in_(("error", "skip", "replace")))
    split_mb: float = attrs.field(validator=_SIZE)
    block_kb: int = attrs.field(validator=_BLOCK)


@attrs.frozen(kw_only=True)
class CsvReadOptions:
    """Options of reading ``csv``.

    :ivar header: whether the first row names the columns. :ivar column_names: names instead of those.
    :ivar column_types: Arrow type names by column (``"int64"``, ``"double"``, ``"string"``, ``"date32"``...); types of
        the others are guessed from the head of the first file and then hold for all of them.
    :ivar newlines_in_values: False promises that no quoted value holds a newline, so that files may be cut.
    """

    split_mb: float = attrs.field(validator=_SIZE)
    block_kb: int = attrs.field(validator=_BLOCK)
    header: bool = attrs.field(default=True, validator=_FLAG)
    column_names: tuple[str, ...] | None = attrs.field(default=None, validator=_NAMES)
    column_types: Mapping[str, str] = attrs.field(factory=dict, validator=_TYPES)
    delimiter: str = attrs.field(default=",", validator=_ONE_CHAR)
    quote_char: str = attrs.field(default='"', validator=_ONE_CHAR)
    newlines_in_values: bool = attrs.field(default=True, validator=_FLAG)


@attrs.frozen(kw_only=True)
class ParquetReadOptions:
    """Options of reading ``parquet``."""

    split_mb: float = attrs.field(validator=_SIZE)
    batch_rows: int = attrs.field(validator=_COUNT)


@attrs.frozen(kw_only=True)
class JsonReadOptions:
    """Options of reading ``json``.

    :ivar form: ``"columns"``: objects as rows of Arrow record batches, all with the same fields; ``"objects"``:
        whatever the lines hold, as Python objects.
    :ivar column_types: Arrow type names by column, as in :class:`CsvReadOptions`; also of columns that come late.
    """

    split_mb: float = attrs.field(validator=_SIZE)
    block_kb: int = attrs.field(validator=_BLOCK)
    form: str = attrs.field(default="columns", validator=in_(("columns", "objects")))
    column_types: Mapping[str, str] = attrs.field(factory=dict, validator=_TYPES)


@attrs.frozen(kw_only=True)
class ArrowReadOptions:
    """Options of reading ``arrow``."""

    split_mb: float = attrs.field(validator=_SIZE)
    batch_rows: int = attrs.field(validator=_COUNT)


@attrs.frozen(kw_only=True)
class BinaryReadOptions:
    """Options of reading ``binary``; one of the first two is needed.

    :ivar record_bytes: size of a record; records are then numpy's ``V`` of that size. :ivar dtype: numpy type of a
        record, in numpy's words: ``"<i8"``, ``"3f4"``, ``[("key", "S10"), ("value", "V90")]``.
    :ivar batch_mb: MiB of one batch.
    """

    split_mb: float = attrs.field(validator=_SIZE)
    record_bytes: int | None = attrs.field(default=None, validator=_RECORD)
    dtype: Any = attrs.field(default=None, validator=_DTYPE)
    batch_mb: float = attrs.field(default=4.0, validator=_SIZE)


@attrs.frozen(kw_only=True)
class WriteOptions:
    """Options of all formats.

    :ivar overwrite: replace output that is there. :ivar single_file: the URI is one file, not a folder of parts.
    """

    overwrite: bool = attrs.field(default=False, validator=_FLAG)
    single_file: bool = attrs.field(default=False, validator=_FLAG)


@attrs.frozen(kw_only=True)
class TextWriteOptions(WriteOptions):
    """Options of writing ``text``.

    :ivar compression: a packing or ``"none"``; None: what the name of a single file says, none for parts.
    """

    compression: str | None = attrs.field(default=None, validator=_PACKING)


@attrs.frozen(kw_only=True)
class TableWriteOptions(WriteOptions):
    """Options of writing columns.

    :ivar column_names: names of the columns of tuples, scalars and arrays (``c0``, ``c1``... without).
    :ivar column_types: Arrow type names by column; without, the first batch decides.
    """

    column_names: tuple[str, ...] | None = attrs.field(default=None, validator=_NAMES)
    column_types: Mapping[str, str] = attrs.field(factory=dict, validator=_TYPES)


@attrs.frozen(kw_only=True)
class CsvWriteOptions(TableWriteOptions):
    """Options of writing ``csv``; ``compression`` as for text."""

    header: bool = attrs.field(default=True, validator=_FLAG)
    delimiter: str = attrs.field(default=",", validator=_ONE_CHAR)
    compression: str | None = attrs.field(default=None, validator=_PACKING)


@attrs.frozen(kw_only=True)
class JsonWriteOptions(WriteOptions):
    """Options of writing ``json``; ``compression`` as for text.

    :ivar column_names: names of the values of tuples and lists, which are objects then; arrays without.
    """

    column_names: tuple[str, ...] | None = attrs.field(default=None, validator=_NAMES)
    compression: str | None = attrs.field(default=None, validator=_PACKING)


@attrs.frozen(kw_only=True)
class ParquetWriteOptions(TableWriteOptions):
    """Options of writing ``parquet``.

    :ivar row_group_rows: rows of one row group, the smallest piece that can be read alone.
    """

    compression: str = attrs.field(default="snappy", validator=in_(("none", "snappy", "gzip", "zstd", "lz4", "brotli")))
    row_group_rows: int = attrs.field(default=262_144, validator=_COUNT)


@attrs.frozen(kw_only=True)
class ArrowWriteOptions(TableWriteOptions):
    """Options of writing ``arrow``.

    :ivar stream: the stream format, which is read from its beginning, instead of files.
    :ivar batch_rows: rows of one record batch, the smallest piece of a file that can be read alone.
    """

    compression: str = attrs.field(default="none", validator=in_(("none", "lz4", "zstd")))
    stream: bool = attrs.field(default=False, validator=_FLAG)
    batch_rows: int = attrs.field(default=65_536, validator=_COUNT)


@attrs.frozen(kw_only=True)
class BinaryWriteOptions(WriteOptions):
    """Options of writing ``binary``: the first two as for reading, else the first record decides; ``compression`` as
    for text.
    """

    record_bytes: int | None = attrs.field(default=None, validator=_RECORD)
    dtype: Any = attrs.field(default=None, validator=_DTYPE)
    compression: str | None = attrs.field(default=None, validator=_PACKING)


_BESIDE = ("columns", "predicate", "partitions")
"""What reads take beside the options of a format, for those who misspell it."""


_ELSEWHERE = {
    "sep": "delimiter",
    "separator": "delimiter",
    "seperator": "delimiter",
    "names": "column_names",
    "dtype": "column_types",
    "usecols": "columns",
    "quotechar": "quote_char",
    "codec": "compression",
    "record_size": "record_bytes",
    "record_length": "record_bytes",
    "orient": "form",
}
"""What other libraries call these options."""


def checked(cls: type[T], given: Mapping[str, Any], what: str, config: FileConfig | None = None) -> T:
    """Build ``cls`` from ``given``, with defaults of the same names from ``config``.

    :param what: ``"reading text"``, for the error text.
    :raises UsageError: unknown names and wrong values, all at once.
    """
    fields = {field.name: field for field in attrs.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {name: getattr(config, name) for name in fields if hasattr(config, name)}
    problems = []
    for name, value in given.items():
        if name not in fields:
            elsewhere = _ELSEWHERE.get(name, "")
            hint = f"; here it is {elsewhere!r}" if elsewhere in (*fields, *_BESIDE) else ""
            known = {*fields, *_BESIDE} - {name}
            problems.append(f"{name}: no such option{hint or did_you_mean(name, known)}")
            continue
        field = fields[name]
        try:
            if field.validator is not None:
                field.validator(None, field, value)
        except (TypeError, ValueError) as error:
            problems.append(f"{name}: {error.args[0] if error.args else error} (given: {value!r})")
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    if problems:
        raise UsageError(
            f"options of {what}: {'; '.join(problems)}",
            why=f"the options are: {', '.join(fields)}",
            remedy="correct them",
            details={"problems": problems},
        )
    return cls(**values)
