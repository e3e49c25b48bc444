"""One schema for all parts of an output, found when they are committed.

Tasks choose the types of their parts from their own records. What differs harmlessly (a column that is None throughout
one part, integers in one and floating point in another) is brought to one type; other differences are refused, before
anything is visible, as nobody could read the folder.
"""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING, Any

from twister2.spec.errors import DataFormatError
from twister2_data_file.arrow_copy import arrow_rows, copy_arrow
from twister2_data_file.arrow_types import common_schema, difference, schema_of_text, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2_data_file.layout import Layout

_TYPED = ("parquet", "arrow")
"""Formats that hold the types in each file."""


def agreed_schema(layout: Layout, committables: Sequence[Any]) -> Any | None:
    """The schema that holds all parts, None for formats without.

    :raises DataFormatError: there is none; names two parts and the field. What was prepared is removed.
    """
    texts: dict[str, Any] = {}
    for part in committables:
        texts.setdefault(part["schema"], part)
    if layout.request.format == "binary":
        _same_records(layout, list(texts.items()), committables)
        return None
    agreed: Any = None
    for text, part in texts.items():
        if not text:
            continue
        schema = schema_of_text(text)
        wider = schema if agreed is None else common_schema(agreed, schema)
        # the columns of CSV files are put in order by nobody
        if wider is None or (layout.request.format == "csv" and wider.names != schema.names):
            first = next((other for other in texts.values() if _apart(other["schema"], schema)), committables[0])
            throw_away(layout, committables)
            raise _disagree(layout, first, part)
        agreed = wider
    return agreed


def rewrite(layout: Layout, part: Any, schema: Any) -> None:
    """Bring a prepared part to the schema, piece by piece, unless it has it or is in place already.

    Formats without types in the file need nothing.

    :raises DataFormatError: a value does not fit the type, such as an integer that is not exact as floating point.
    """
    store, source = layout.store, part["source"]
    if layout.request.format not in _TYPED or not differs(part, schema) or store.size(source) is None:
        return
    import pyarrow

    copy = _copy_parquet if layout.request.format == "parquet" else copy_arrow
    widened = source.removesuffix(".tmp") + "-u.tmp"
    try:
        with store.open(source) as old, store.create(widened) as new:
            copy(old, new, schema)
            store.sync(new)
    except pyarrow.ArrowException as error:
        store.remove(widened)
        raise DataFormatError(
            f"the parts of {layout.shown} have different columns, and they cannot be made equal",
            why=f"a value of the part of task {task_of(part)} does not fit {told(schema)}: {error}",
            remedy="name the types with the option column_types",
            where=layout.shown,
        ) from error
    store.replace(widened, source)


def _copy_parquet(old: IO[bytes], new: IO[bytes], schema: Any) -> None:
    from pyarrow import parquet

    file = parquet.ParquetFile(old)
    packing = file.metadata.row_group(0).column(0).compression if file.metadata.num_row_groups else "SNAPPY"
    packing = "none" if packing == "UNCOMPRESSED" else packing.lower()
    with parquet.ParquetWriter(new, schema, compression=packing) as writer:
        for number in range(file.metadata.num_row_groups):
            writer.write_table(file.read_row_group(number).select(schema.names).cast(schema))


def differs(part: Any, schema: Any) -> bool:
    """Whether a part was written with other types, or another order of columns."""
    return schema is not None and not schema_of_text(part["schema"]).equals(schema)


def throw_away(layout: Layout, committables: Sequence[Any]) -> None:
    """Remove prepared parts that are not in place, and the folders that are empty then."""
    for part in committables:
        with contextlib.suppress(OSError):
            layout.store.remove(part["source"])
    layout.leave()


def is_rewritten(layout: Layout, part: Any, schema: Any) -> bool:
    """Whether the part lies at its target, with the types of the schema."""
    form = layout.request.format
    if form not in _TYPED or not differs(part, schema) or layout.store.size(part["target"]) is None:
        return False
    import pyarrow
    from pyarrow import parquet

    try:
        with layout.store.open(part["target"]) as file:
            n_rows = parquet.ParquetFile(file).metadata.num_rows if form == "parquet" else arrow_rows(file)
    except pyarrow.ArrowException:
        return False
    return int(n_rows) == int(part["records"])


def task_of(part: Any) -> int:
    """The task that wrote a part."""
    return int(part["task"])


def _same_records(layout: Layout, kinds: Sequence[tuple[str, Any]], committables: Sequence[Any]) -> None:
    told_kinds = [(kind, part) for kind, part in kinds if kind]
    if len(told_kinds) < 2:
        return
    throw_away(layout, committables)
    (one, first), (two, second) = told_kinds[:2]
    raise DataFormatError(
        f"the parts of {layout.shown} have different records: {one} and {two}",
        why=f"the first is of task {task_of(first)}, the second of task {task_of(second)}",
        remedy="make all records of one kind, or give the option dtype",
        where=layout.shown,
    )


def _apart(text: str, schema: Any) -> bool:
    return bool(text) and common_schema(schema_of_text(text), schema) is None


def _disagree(layout: Layout, first: Any, second: Any) -> DataFormatError:
    one, two = schema_of_text(first["schema"]), schema_of_text(second["schema"])
    return DataFormatError(
        f"the parts of {layout.shown} have different columns: {difference(one, two)}",
        why=f"the first, of task {task_of(first)}, has {told(one)}; the second, of task {task_of(second)}, {told(two)}",
        remedy="give all records the same fields, or use the options column_names (names and order) and column_types",
        where=layout.shown,
    )
