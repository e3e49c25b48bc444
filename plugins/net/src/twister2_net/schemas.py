"""Which columns operators deliver: plans ask the catalogue, before there is an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SUFFIX = "_right"
"""Added to columns of the right side of a join whose names the left side has too."""


def unchanged(options: Mapping[str, Any], schemas: Sequence[Any]) -> Any:
    """The schema of records that are delivered as they were sent; None where inputs differ."""
    first = schemas[0]
    return first if all(schema == first for schema in schemas[1:]) else None


def of_join(options: Mapping[str, Any], schemas: Sequence[Any]) -> Any:
    """The schema of joined rows."""
    import pyarrow

    left, right = schemas if len(schemas) == 2 else (None, None)
    if left is None or any(callable(options.get(f"{side}_key")) for side in ("left", "right")):
        return None
    if options.get("how") in ("semi", "anti"):
        return left
    if right is None:
        return None
    key = options.get("right_key") or right.names[:1]
    named = names_of_right(left.names, right.names, [key] if isinstance(key, str) else key)
    return pyarrow.schema([*left, *(right.field(name).with_name(new) for name, new in named.items())])


def names_of_right(left: Sequence[str], right: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """What the columns of the right that are no keys are called in a join."""
    taken = set(left)
    found: dict[str, str] = {}
    for name in right:
        if name not in keys:
            new = name
            while new in taken:
                new += SUFFIX
            taken.add(new)
            found[name] = new
    return found


SCHEMAS: Mapping[str, Callable[[Mapping[str, Any], Sequence[Any]], Any]] = {
    **dict.fromkeys(("direct", "pipe", "partition", "keyed_partition", "sort", "distinct", "union"), unchanged),
    **dict.fromkeys(("gather", "allgather", "broadcast"), unchanged),
    "join": of_join,
}
"""By name of the operator, of those whose columns are known from those of their inputs."""
