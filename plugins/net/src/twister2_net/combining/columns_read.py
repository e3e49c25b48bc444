"""Which columns of their inputs operators, and those behind them, look at, and by which the rows lie that they deliver:
rules ask the catalogue, before there is an operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from twister2_net.schemas import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Columns: TypeAlias = "tuple[str, ...] | None"
"""None: maybe all."""


def named(key: Any) -> Columns:
    """The columns that an option names as keys; None where there is none, or a function."""
    names = (key,) if isinstance(key, str) else tuple(key) if isinstance(key, (list, tuple)) else ()
    return names if names and all(isinstance(name, str) for name in names) else None


def both(columns: Columns, wanted: Columns) -> Columns:
    """Columns of two who look at them."""
    return None if columns is None or wanted is None else tuple(dict.fromkeys((*columns, *wanted)))


def of_aggregate(options: Mapping[str, Any], wanted: Columns, schemas: Sequence[Any]) -> list[Columns]:
    """What an aggregate looks at: nobody behind it sees more; all where functions or pairs are asked for."""
    key, results = options.get("key"), options.get("aggregates")
    if options.get("pairs") or not isinstance(results, Mapping):
        return [None] * len(schemas)
    found: list[Any] = [] if key is None else list(key) if isinstance(key, (list, tuple)) else [key]
    for what in results.values():
        if what != "count":  # of rows, whatever they have
            found.append(what[0] if isinstance(what, (tuple, list)) and what else None)
    columns = tuple(dict.fromkeys(found)) if all(isinstance(name, str) for name in found) else None
    return [columns] * len(schemas)


def by_key(options: Mapping[str, Any], wanted: Columns, schemas: Sequence[Any]) -> list[Columns]:
    """What is delivered as it comes, looked at by its key."""
    return [both(named(options.get("key")), wanted)] * len(schemas)


def of_partition(options: Mapping[str, Any], wanted: Columns, schemas: Sequence[Any]) -> list[Columns]:
    """As that of :func:`by_key`; a partitioner may look at records."""
    partitioner = options.get("partitioner", "hash")
    if partitioner == "round_robin":
        return [wanted] * len(schemas)
    return by_key(options, wanted, schemas) if isinstance(partitioner, str) else [None] * len(schemas)


def unseen(options: Mapping[str, Any], wanted: Columns, schemas: Sequence[Any]) -> list[Columns]:
    """What is delivered as it comes."""
    return [wanted] * len(schemas)


def of_join(options: Mapping[str, Any], wanted: Columns, schemas: Sequence[Any]) -> list[Columns]:
    """The keys of each side, and its columns that are wanted under their own name or with suffixes behind it: so none
    is left out that gives another its suffix. All of a side whose columns are not known; of kinds that give rows of the
    left alone, the keys of the right.
    """
    keys = [named(options.get(f"{side}_key")) for side in ("left", "right")]
    if wanted is None or None in keys or len(schemas) != len(keys) or callable(options.get("partitioner")):
        return [None] * len(schemas)
    if options.get("how") in ("semi", "anti"):
        return [both(keys[0], wanted), keys[1]]
    names = set(wanted)
    for name in wanted:
        while name.endswith(SUFFIX):
            name = name.removesuffix(SUFFIX)
            names.add(name)
    return [
        None if schema is None else both(key, tuple(name for name in schema.names if name in names))
        for key, schema in zip(keys, schemas, strict=True)
    ]


READS: Mapping[str, Callable[[Mapping[str, Any], Columns, Sequence[Any]], Sequence[Columns]]] = {
    **dict.fromkeys(("sort", "distinct"), by_key),
    **dict.fromkeys(("partition", "keyed_partition"), of_partition),
    **dict.fromkeys(("gather", "allgather", "broadcast"), unseen),
    "aggregate": of_aggregate,
    "join": of_join,
}
"""By name of the operator, of those that declare it. Not union: what meets has to keep the same columns, and not every
source can leave some out.
"""


def _of_one(options: Mapping[str, Any]) -> str | None:
    columns = named(options.get("key"))
    return columns[0] if columns is not None and len(columns) == 1 else None


def rows_of_groups(options: Mapping[str, Any]) -> str | None:
    """The column by whose hash rows of results lie. Those of several key columns lie by a hash of their own."""
    return None if options.get("pairs") or not isinstance(options.get("aggregates"), Mapping) else _of_one(options)


def rows_in_parts(options: Mapping[str, Any]) -> str | None:
    """The column by whose hash rows are partitioned."""
    return _of_one(options) if options.get("partitioner", "hash") == "hash" else None


ROWS_BY: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    "aggregate": rows_of_groups,
    "partition": rows_in_parts,
}
"""By name of the operator, of those that deliver rows by the hash of a column."""
