"""Rule ``combine``: values that are only folded are folded before they travel."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from twister2.graph.fingerprint import describe
from twister2.graph.fused import FusedFactory
from twister2.graph.rules.rule import Rule
from twister2.spec.batch import is_arrow
from twister2.spec.tasks import Compute

if TYPE_CHECKING:
    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalEdge, LogicalPlan
    from twister2.spec.batch import Batch
    from twister2.spec.ops import OperatorInfo
    from twister2.spec.tasks import Emit, Task


class Combine(Rule):
    """Puts an operator that folds in the place of one that gathers, for a compute that declares ``folds``."""

    name: ClassVar[str] = "combine"
    explanation: ClassVar[str] = "a step that only folds the values of each key gets them folded before they are sent"

    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """Change every edge where it can be done."""
        vertices, lines = {vertex.name: vertex for vertex in plan.vertices}, []
        edges: list[LogicalEdge] = []
        for edge in plan.edges:
            target = vertices[edge.target]
            folded = self._folded(edge, catalog)
            if target.declares.folds is None or folded is None or len(plan.inputs(edge.target)) > 1:
                edges.append(edge)
                continue
            plugin = edge.operator.partition(".")[0]
            reducer = target.declares.folds
            edges.append(attrs.evolve(edge, operator=f"{plugin}.{folded.name}", options={"reducer": reducer}))
            make = FusedFactory((target.name, target.name), (edge.name,), (_one_value, target.make))
            vertices[target.name] = attrs.evolve(target, make=make)
            lines.append(f"{target.name} gets values folded by {describe(reducer)}: {folded.name} in place of a gather")
        if not lines:
            return plan, []
        return attrs.evolve(plan, vertices=tuple(vertices.values()), edges=tuple(edges)), lines

    @staticmethod
    def _folded(edge: LogicalEdge, catalog: Catalog) -> OperatorInfo | None:
        """The operator that does the same with a reducer, where nothing was asked that it does not do."""
        info = catalog.info(edge.operator)
        if (
            info is None
            or not info.folded
            or len(edge.sources) > 1
            or dict(edge.options) not in ({}, {"grouped": True})
        ):
            return None
        return catalog.info(f"{edge.operator.partition('.')[0]}.{info.folded}")


def _one_value(index: int) -> Task:
    return _OneValue()


class _OneValue(Compute):
    """Gives each key the list of the one value that its values were folded to."""

    narrow = True

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        pairs = zip(*(column.to_pylist() for column in batch.columns), strict=True) if is_arrow(batch) else batch
        emit([(key, [value]) for key, value in pairs])
