"""What several rules ask of a plan: which edges only hand batches on, how pairs lie, how much there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalEdge, LogicalPlan

_HASH = "hash"

_ELSEWHERE = {"partitioner": _HASH, "bounds": None, "broadcast": None}
"""Options of keyed operators that may change where pairs go, and the values that do not."""
_SIDE_KEYS = ("left_key", "right_key")
_HARMLESS = {
    *("reducer", "initial", "grouped", "order", "ordered", "how", "algorithm", "in_place"),
    *("pairs", "aggregates", "ddof", "zero", "add", "merge", "result"),
    *("left_schema", "right_schema"),
    *_SIDE_KEYS,  # where they name columns
    *_ELSEWHERE,
}
"""Options that leave the key what it is: the first part of a pair, or what the columns named for a side have."""


def hands_on(edge: LogicalEdge, catalog: Catalog) -> bool:
    """Whether the batches of a task come to one task as they are, and nothing else does by this edge."""
    info = catalog.info(edge.operator)
    return (
        info is not None
        and len(edge.sources) == 1
        and not edge.options
        and info.shape == "one_to_one"
        and info.delivers == "batches"
        and not info.holds_records  # one that does makes something of them
    )


def goes_by_hash(edge: LogicalEdge, catalog: Catalog) -> bool:
    """Whether what an edge delivers lies by the hash of keys."""
    info = catalog.info(edge.operator)
    return _row_column(edge, catalog) is not None or (
        info is not None
        and info.partitions == _HASH
        and set(edge.options) <= _HARMLESS
        and not any(callable(edge.options.get(name)) for name in _SIDE_KEYS)
        and ("pairs" not in info.options or edge.options.get("pairs") is True)
        and all(edge.options.get(name, plain) == plain for name, plain in _ELSEWHERE.items())
    )


def key_columns(edge: LogicalEdge, number: int, catalog: Catalog) -> tuple[str, ...] | None:
    """The columns that have the keys of an input of an edge that goes by hash; no columns for pairs, None where a
    function tells the key. What a join delivers has the keys of its left under the same names.
    """
    column = _row_column(edge, catalog)
    if column is not None:
        return (column,)
    named = edge.options.get(_SIDE_KEYS[number]) if number < len(_SIDE_KEYS) else None
    if callable(named):
        return None
    return (named,) if isinstance(named, str) else tuple(named or ())


def _row_column(edge: LogicalEdge, catalog: Catalog) -> str | None:
    """The column by whose hash lie the rows that an edge delivers; None where they do not lie by one."""
    info = catalog.info(edge.operator)
    return None if info is None or info.rows_by is None else info.rows_by(edge.options)


def by_hash(plan: LogicalPlan, catalog: Catalog) -> Mapping[str, tuple[str, ...]]:
    """The vertices whose task ``i`` has (of a sink: gets) the records of keys with ``task_of_key(key, tasks) == i``;
    with the columns that have the keys, none for pairs.
    """
    found: dict[str, tuple[str, ...]] = {}
    for vertex in plan.vertices:
        if vertex.kind == "source":
            if vertex.declares.partitioned is not None:
                found[vertex.name] = vertex.declares.partitioned
            continue
        # A sink with computes before it in one task (rule fuse) declares what they do.
        alone = vertex.kind == "sink" and len(vertex.parts) == 1
        if alone or vertex.declares.keeps_keys:
            ways = {_delivered(edge, catalog, found) for edge in plan.inputs(vertex.name)}
            columns = ways.pop() if len(ways) == 1 else None
            if columns is not None:
                found[vertex.name] = columns
    return found


def _delivered(edge: LogicalEdge, catalog: Catalog, found: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """The key columns by whose hash lies what an edge delivers; None when it does not."""
    if goes_by_hash(edge, catalog):
        return key_columns(edge, 0, catalog)
    return found.get(edge.sources[0]) if hands_on(edge, catalog) else None


def lies_for(
    plan: LogicalPlan, edge: LogicalEdge, number: int, lying: Mapping[str, tuple[str, ...]], catalog: Catalog
) -> bool:
    """Whether an input of a keyed edge has task by task what the edge would bring there."""
    source = edge.sources[number]
    return (
        source in lying
        and lying[source] == key_columns(edge, number, catalog)
        and plan.vertex(source).parallelism == plan.vertex(edge.target).parallelism
    )


def sizes(plan: LogicalPlan, catalog: Catalog) -> Mapping[str, int]:
    """Bytes of all that a vertex gives, about and at most, for the vertices of which that is known."""
    found: dict[str, int] = {}
    for vertex in plan.vertices:
        size = vertex.n_bytes
        if vertex.kind == "compute" and vertex.declares.never_more:
            coming = [
                found.get(source) if _never_more(edge, catalog) else None
                for edge in plan.inputs(vertex.name)
                for source in edge.sources
            ]
            size = None if None in coming else sum(filter(None, coming))
        if size is not None:
            found[vertex.name] = size
    return found


def _never_more(edge: LogicalEdge, catalog: Catalog) -> bool:
    info = catalog.info(edge.operator)
    return info is not None and (
        hands_on(edge, catalog)
        or (info.delivers == "batches" and info.combines)
        or (info.partitions == _HASH and info.inputs == 1)
    )


def is_indifferent(plan: LogicalPlan, name: str, catalog: Catalog) -> bool:
    """Whether a vertex, and what follows it, makes the same of its records however they are spread over its tasks."""
    waiting, seen = [name], {name}
    for one in waiting:  # grows while it is walked over
        vertex = plan.vertex(one)
        said = vertex.declares.indifferent
        if not (vertex.narrow if said is None else said) or not all(given.whole for given in vertex.inputs.values()):
            return False
        for edge in plan.outputs(one):
            if edge.target not in seen and not _spreads_anew(edge, catalog):
                seen.add(edge.target)
                waiting.append(edge.target)
    return True


def _spreads_anew(edge: LogicalEdge, catalog: Catalog) -> bool:
    info = catalog.info(edge.operator)
    return info is not None and (info.keyed or info.combines or info.shape in ("many_to_one", "one_to_many"))
