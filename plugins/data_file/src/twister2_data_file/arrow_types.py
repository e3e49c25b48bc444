"""Arrow types by name, and how a difference between two schemas is told."""

from __future__ import annotations

import base64
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


def common_type(first: Any, second: Any) -> Any | None:
    """The type that holds the values of both without loss of meaning, None when there is none.

    Null goes with everything, integers widen and become floating point beside it, lists and structs by what they hold.
    Whether each value fits (an integer above 2**53 in a double) is for the cast to say.
    """
    import pyarrow
    from pyarrow import types

    if first.equals(second) or types.is_null(second):
        return first
    if types.is_null(first):
        return second
    numeric = all(types.is_integer(each) or types.is_floating(each) for each in (first, second))
    if numeric:
        try:
            both = [pyarrow.schema([("x", each)]) for each in (first, second)]
            return pyarrow.unify_schemas(both, promote_options="permissive").field("x").type
        except pyarrow.ArrowException:
            return None
    if types.is_list(first) and types.is_list(second):
        inner = common_type(first.value_type, second.value_type)
        return None if inner is None else pyarrow.list_(inner)
    if types.is_struct(first) and types.is_struct(second):
        names = [field.name for field in first]
        if names != [field.name for field in second]:
            return None
        inners = [common_type(first.field(name).type, second.field(name).type) for name in names]
        return None if None in inners else pyarrow.struct(list(zip(names, inners, strict=True)))
    return None


def common_schema(first: Any, second: Any) -> Any | None:
    """The schema of both, with the columns in the order of the first; None when names or types do not go together."""
    import pyarrow

    if set(first.names) != set(second.names) or len(first.names) != len(second.names):
        return None
    found = {name: common_type(first.field(name).type, second.field(name).type) for name in first.names}
    return None if None in found.values() else pyarrow.schema(list(found.items()))


def schema_text(schema: Any) -> str:
    """A schema as plain text that :func:`schema_of_text` reads."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


def schema_of_text(text: str) -> Any:
    """The schema of such a text."""
    import pyarrow

    return pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(text)))


def told(schema: Any) -> str:
    """Names and types, for people."""
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


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
