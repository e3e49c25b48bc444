"""Arrow tables whose columns go by name: rows that were no columns before may have others from batch to batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2_net.spilling.sorted_columns import ArrowForm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class NamedForm(ArrowForm):
    """Batches may have their columns in any order; a column that some of them lack is null there."""

    def joined(self, parts: Sequence[Any]) -> Any:
        first = parts[0].schema.names
        if all(part.schema.names == first for part in parts) or any(_doubled(part.schema.names) for part in parts):
            return super().joined(parts)
        types: dict[str, Any] = {}
        for part in parts:
            for field in part.schema:
                if _is_null(types.setdefault(field.name, field.type)):
                    types[field.name] = field.type
        return super().joined([_with(part, types) for part in parts])


def without_rows(batch: Any) -> Any:
    """An empty batch of the same columns. A slice would keep alive, and might send, all that it is cut from."""
    import pyarrow

    columns = [column.combine_chunks() for column in batch.schema.empty_table().columns]
    return pyarrow.RecordBatch.from_arrays(columns, schema=batch.schema)


def _with(part: Any, types: Mapping[str, Any]) -> Any:
    import pyarrow

    names = set(part.schema.names)
    return pyarrow.table(
        {
            name: part.column(name) if name in names else pyarrow.nulls(part.num_rows, kind)
            for name, kind in types.items()
        }
    )


def _doubled(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


def _is_null(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_null(kind))
