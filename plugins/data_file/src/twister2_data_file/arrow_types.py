"""Arrow types by name, and how a difference between two schemas is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")


def type_named(name: str, column: str) -> Any:
    """The Arrow type of that name (``"int64"``, ``"string"``, ``"timestamp[ms]"``, ``"timestamp[ms, tz=UTC]"``...).

    :raises UsageError: there is none.
    """
    import pyarrow

    zoned = _ZONED.fullmatch(name)
    if zoned:
        return pyarrow.timestamp(zoned[1], tz=zoned[2])
    try:
        return pyarrow.type_for_alias(name)
    except ValueError as error:
        raise UsageError(
            f"column_types: {column!r} has no type {name!r}",
            why=str(error),
            remedy="names are those of Arrow: int64, double, string, bool, date32, timestamp[ms]...",
        ) from error


def types_named(names: Mapping[str, str]) -> dict[str, Any]:
    """Arrow types by column."""
    return {column: type_named(name, column) for column, name in names.items()}


def difference(first: Any, second: Any) -> str | None:
    """The first difference between two schemas in words, None when fields and types are equal."""
    for field in first:
        if field.name not in second.names:
            return f"field {field.name!r} is missing in the second"
        other = second.field(field.name)
        if not field.type.equals(other.type):
            return f"field {field.name!r} is {field.type} in the first and {other.type} in the second"
    extra = [name for name in second.names if name not in first.names]
    if extra:
        return f"field {extra[0]!r} is only in the second"
    return None if first.names == second.names else "the fields come in another order"
