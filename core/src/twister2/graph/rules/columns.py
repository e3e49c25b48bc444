"""Rule ``columns``: sources read the columns that somebody looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from twister2.graph.rules.rule import Rule
from twister2.graph.rules.ways import hands_on

if TYPE_CHECKING:
    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalEdge, LogicalPlan, LogicalVertex


class Columns(Rule):
    """Leaves out columns where all that follow a source say what they look at."""

    name: ClassVar[str] = "columns"
    explanation: ClassVar[str] = "a source reads no columns that nobody behind it looks at"

    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """Ask every source that can for fewer columns."""
        vertices, lines = [], []
        for vertex in plan.vertices:
            columns = self._read(plan, vertex, catalog)
            make = None
            if columns is not None and vertex.declares.with_columns is not None:
                make = vertex.declares.with_columns(columns)
            if make is None or columns is None:
                vertices.append(vertex)
                continue
            listed = ", ".join(columns)
            vertices.append(attrs.evolve(vertex.made_by(make), shows=f"{vertex.shows}, columns {listed}"))
            lines.append(f"{vertex.name} reads {listed} only")
        return (attrs.evolve(plan, vertices=tuple(vertices)), lines) if lines else (plan, [])

    @staticmethod
    def _read(plan: LogicalPlan, vertex: LogicalVertex, catalog: Catalog) -> tuple[str, ...] | None:
        """The columns that those who follow look at; None when one of them does not say."""
        if vertex.declares.with_columns is None:
            return None
        found: dict[str, None] = {}
        for edge in plan.outputs(vertex.name):
            reads = _read_by(plan, edge, catalog)
            if reads is None:
                return None
            found.update(dict.fromkeys(reads))
        return tuple(found) or None


def _read_by(plan: LogicalPlan, edge: LogicalEdge, catalog: Catalog) -> tuple[str, ...] | None:
    """The columns that the operator of an edge looks at, or the step behind one that only hands on."""
    info = catalog.info(edge.operator)
    if info is not None and info.reads is not None:
        return info.reads(edge.options)
    return plan.vertex(edge.target).declares.reads if hands_on(edge, catalog) else None
