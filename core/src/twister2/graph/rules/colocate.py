"""Rule ``colocate``: what lies by key already is not sent by key again."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from twister2.graph.rules.rule import Rule
from twister2.graph.rules.ways import by_hash, goes_by_hash, lies_for

if TYPE_CHECKING:
    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalEdge, LogicalPlan


class Colocate(Rule):
    """Sets the option ``in_place`` of keyed operators for inputs that lie as they would bring them."""

    name: ClassVar[str] = "colocate"
    explanation: ClassVar[str] = "what lies by the hash of its keys, in as many partitions, stays where it is"

    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """Look at every keyed edge of a batch graph."""
        if plan.mode != "batch":
            return plan, []
        lying = by_hash(plan, catalog)
        edges: list[LogicalEdge] = []
        lines = []
        for edge in plan.edges:
            info, tasks = catalog.info(edge.operator), plan.vertex(edge.target).parallelism
            inputs = tuple(
                number for number in range(len(edge.sources)) if lies_for(plan, edge, number, lying, catalog)
            )
            if (
                not inputs
                or info is None
                or "in_place" not in info.options
                or "in_place" in edge.options
                or not goes_by_hash(edge, catalog)
            ):
                edges.append(edge)
                continue
            edges.append(attrs.evolve(edge, options={**edge.options, "in_place": inputs}))
            names = " and ".join(dict.fromkeys(edge.sources[number] for number in inputs))
            keys = " and ".join(dict.fromkeys(", ".join(lying[edge.sources[number]]) or "key" for number in inputs))
            lines.append(f"{edge.target} takes {names} in place: by {keys} in {tasks} partitions already")
        return (attrs.evolve(plan, edges=tuple(edges)), lines) if lines else (plan, [])
