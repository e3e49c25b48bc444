"""One schema for all parts of an output, found when they are committed.

Tasks choose the types of their parts from their own records. What differs harmlessly (a column that is None throughout
one part, integers in one and floating point in another) is brought to one type; other differences are refused, before
anything is visible, as nobody could read the folder.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import DataFormatError
from twister2_data_file.arrow_types import common_schema, difference, schema_of_text, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2_data_file.layout import Layout


def agreed_schema(layout: Layout, committables: Sequence[Any]) -> Any | None:
    """The schema that holds all parts, None for formats without.

    :raises DataFormatError: there is none; names two parts and the field. What was prepared is removed.
    """
    texts: dict[str, Any] = {}
    for part in committables:
        texts.setdefault(part["schema"], part)
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
    """Bring a prepared Parquet part to the schema, row group by row group, unless it has it or is in place already.

    CSV has no types in the file: nothing to do.

    :raises DataFormatError: a value does not fit the type, such as an integer that is not exact as floating point.
    """
    store, source = layout.store, part["source"]
    if layout.request.format != "parquet" or not differs(part, schema) or store.size(source) is None:
        return
    import pyarrow
    from pyarrow import parquet

    widened = source.removesuffix(".tmp") + "-u.tmp"
    try:
        with store.open(source) as old, store.create(widened) as new:
            file = parquet.ParquetFile(old)
            packing = file.metadata.row_group(0).column(0).compression if file.metadata.num_row_groups else "SNAPPY"
            packing = "none" if packing == "UNCOMPRESSED" else packing.lower()
            with parquet.ParquetWriter(new, schema, compression=packing) as writer:
                for number in range(file.metadata.num_row_groups):
                    writer.write_table(file.read_row_group(number).select(schema.names).cast(schema))
            store.sync(new)
    except pyarrow.ArrowException as error:
        store.remove(widened)
        raise DataFormatError(
            f"the parts of {layout.target} have different columns, and they cannot be made equal",
            why=f"a value of the part of task {task_of(part)} does not fit {told(schema)}: {error}",
            remedy="name the types with the option column_types",
            where=layout.target,
        ) from error
    store.replace(widened, source)


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
    if layout.request.format != "parquet" or not differs(part, schema) or layout.store.size(part["target"]) is None:
        return False
    import pyarrow
    from pyarrow import parquet

    try:
        with layout.store.open(part["target"]) as file:
            return int(parquet.ParquetFile(file).metadata.num_rows) == int(part["records"])
    except pyarrow.ArrowException:
        return False


def task_of(part: Any) -> int:
    """The task that wrote a part."""
    return int(part["task"])


def _apart(text: str, schema: Any) -> bool:
    return bool(text) and common_schema(schema_of_text(text), schema) is None


def _disagree(layout: Layout, first: Any, second: Any) -> DataFormatError:
    one, two = schema_of_text(first["schema"]), schema_of_text(second["schema"])
    return DataFormatError(
        f"the parts of {layout.target} have different columns: {difference(one, two)}",
        why=f"the first, of task {task_of(first)}, has {told(one)}; the second, of task {task_of(second)}, {told(two)}",
        remedy="give all records the same fields, or use the options column_names (names and order) and column_types",
        where=layout.target,
    )
