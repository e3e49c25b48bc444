"""Which columns there are, as far as it is known before anything runs: operators that cannot do without the columns of
an input that gives no row are told them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalEdge, LogicalPlan


def schemas(plan: LogicalPlan, catalog: Catalog) -> Mapping[str, Any]:
    """The pyarrow schemas of what vertices give (sinks: get), by name, of those of which it is known."""
    found: dict[str, Any] = {}
    for vertex in plan.vertices:
        if vertex.kind == "source":
            schema = vertex.schema
        else:
            edges = plan.inputs(vertex.name)
            schema = _delivered(edges[0], catalog, found) if len(edges) == 1 else None
            if vertex.kind == "compute":
                schema = None if vertex.declares.schema is None else vertex.declares.schema(schema)
        if schema is not None:
            found[vertex.name] = schema
    return found


def with_schemas(plan: LogicalPlan, catalog: Catalog, known: Mapping[str, Any]) -> LogicalPlan:
    """The plan in which operators have the options that tell them schemas (:attr:`OperatorInfo.schema_options`), where
    the program does not give them.
    """
    edges = []
    for edge in plan.edges:
        info = catalog.info(edge.operator)
        names = () if info is None or len(info.schema_options) != len(edge.sources) else info.schema_options
        told = {name: known[source] for name, source in zip(names, edge.sources, strict=False) if source in known}
        edges.append(attrs.evolve(edge, options={**told, **edge.options}) if told else edge)
    return attrs.evolve(plan, edges=tuple(edges))


def _delivered(edge: LogicalEdge, catalog: Catalog, found: Mapping[str, Any]) -> Any:
    info = catalog.info(edge.operator)
    if info is None or info.schema is None:
        return None
    return info.schema(edge.options, [found.get(source) for source in edge.sources])
