"""Rule ``share``: what several sources would read alike is read once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.graph.records import shorten
from twister2.graph.rules.rule import Rule

if TYPE_CHECKING:
    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalPlan, LogicalVertex


class Share(Rule):
    """Puts one source in the place of several that declare the same identity."""

    name: ClassVar[str] = "share"
    explanation: ClassVar[str] = "sources that declare the same identity give the same records: one of them is enough"

    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """Keep the first of each kind."""
        kept: dict[Any, list[LogicalVertex]] = {}
        instead: dict[str, str] = {}
        lines = []
        for vertex in plan.vertices:
            identity = vertex.declares.identity
            if vertex.kind != "source" or identity is None:
                continue
            alike = kept.setdefault(identity, [])
            first = next((one for one in alike if _same(plan, one, vertex)), None)
            if first is None:
                alike.append(vertex)
            else:
                instead[vertex.name] = first.name
                lines.append(f"{first.name} is read in place of {vertex.name}: both are {shorten(identity, 60)}")
        if not instead:
            return plan, []
        parts: dict[str, tuple[str, ...]] = {}
        for vertex in plan.vertices:
            name = instead.get(vertex.name, vertex.name)
            parts[name] = (*parts.get(name, ()), *vertex.parts)  # it goes by the names of all
        vertices = tuple(
            attrs.evolve(vertex, parts=parts[vertex.name]) for vertex in plan.vertices if vertex.name not in instead
        )
        edges = tuple(
            attrs.evolve(edge, sources=tuple(instead.get(source, source) for source in edge.sources))
            for edge in plan.edges
        )
        fixed = {name: workers for name, workers in plan.fixed.items() if name not in instead}
        return attrs.evolve(plan, vertices=vertices, edges=edges, fixed=fixed), lines


def _same(plan: LogicalPlan, one: LogicalVertex, other: LogicalVertex) -> bool:
    """Whether what was planned for them, and what was asked for them, is the same too."""
    return (
        one.parallelism == other.parallelism
        and one.options == other.options
        and (one.asks, one.cpus, one.memory_mb, one.gpus) == (other.asks, other.cpus, other.memory_mb, other.gpus)
        and one.hosts == other.hosts
        and not one.inputs
        and not other.inputs
        and plan.fixed.get(one.name) == plan.fixed.get(other.name)
        and _equal(one.planned, other.planned)
    )


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:
        return False  # arrays, say: not known to be equal
