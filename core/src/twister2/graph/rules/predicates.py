"""Rule ``predicates``: rows that nobody wants are not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.graph.records import shorten
from twister2.graph.rules.rule import Rule
from twister2.graph.rules.ways import hands_on
from twister2.graph.vertices import declared
from twister2.spec.relations import said

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalPlan, LogicalVertex


class Predicates(Rule):
    """Lets a source filter in the place of the step behind it that only does that."""

    name: ClassVar[str] = "predicates"
    explanation: ClassVar[str] = "a source that can filter gives no rows that the step behind it would leave out"

    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """Ask every source that can to filter."""
        lines: list[str] = []
        for source in [vertex.name for vertex in plan.vertices if vertex.declares.with_predicate is not None]:
            steps = self._filters(plan, source, catalog)
            while steps:  # as many of them as the source can do
                make = plan.vertex(source).declares.with_predicate(_predicate(steps))  # type: ignore[misc]
                if make is not None:
                    lines.append(f"{source} gives only rows with {_shown(_predicate(steps))}")
                    plan = _without(plan, plan.vertex(source), steps, make)
                    break
                steps.pop()
        return plan, lines

    @staticmethod
    def _filters(plan: LogicalPlan, source: str, catalog: Catalog) -> list[LogicalVertex]:
        """The steps behind a source that filter rows and do nothing else, as long as nobody else reads from them; also
        behind such that only select columns.
        """
        found: list[LogicalVertex] = []
        at, selected = source, None
        while len(edges := plan.outputs(at)) == 1:
            (edge,) = edges
            step = plan.vertex(edge.target)
            if not hands_on(edge, catalog) or len(plan.inputs(step.name)) > 1:
                break
            at, declares = step.name, step.declares
            looked_at = declares.reads if declares.selects else [column for column, _, _ in declares.predicate]
            if selected is not None and not set(looked_at or ()) <= set(selected):
                break  # that a column is missing, the step says, which needs a row for that
            if declares.selects:
                selected = declares.reads
            elif not declares.predicate or step.inputs or step.asks or step.options or step.name in plan.fixed:
                break
            else:
                found.append(step)
        return found


def _predicate(steps: list[LogicalVertex]) -> tuple[tuple[str, str, Any], ...]:
    return tuple(one for step in steps for one in step.declares.predicate)


def _shown(predicate: tuple[tuple[str, str, Any], ...]) -> str:
    return " and ".join(said(column, relation, shorten(value, 40)) for column, relation, value in predicate)


def _without(
    plan: LogicalPlan, source: LogicalVertex, steps: list[LogicalVertex], make: Callable[..., Any]
) -> LogicalPlan:
    """The plan in which a source does what the steps behind it did."""
    gone = {step.name for step in steps}
    instead: dict[str, str] = {}
    for step in steps:
        (before,) = plan.inputs(step.name)[0].sources
        instead[step.name] = instead.get(before, before)
    filtering = attrs.evolve(
        source.made_by(make),
        declares=declared(make, None),
        shows=f"{source.shows}, where {_shown(_predicate(steps))}",
        parts=tuple(part for vertex in (source, *steps) for part in vertex.parts),
    )
    vertices = tuple(filtering if vertex is source else vertex for vertex in plan.vertices if vertex.name not in gone)
    edges = tuple(
        attrs.evolve(edge, sources=tuple(instead.get(one, one) for one in edge.sources))
        for edge in plan.edges
        if edge.target not in gone
    )
    return attrs.evolve(plan, vertices=vertices, edges=edges)
