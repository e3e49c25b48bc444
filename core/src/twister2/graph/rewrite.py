"""Rewriting rules: what is changed in a graph before it is scheduled, and why.

A rule reads declarations (of tasks and of operators), never class names. It is an object of :class:`Rule` in
:data:`RULES`; a graph leaves rules out by name (``Graph(without_rules=["fuse"])``). Combining before a shuffle needs no
rule: operators that declare ``combines`` do it themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import attrs

from twister2.graph.fused import FusedFactory
from twister2.graph.logical import LogicalEdge, LogicalPlan, LogicalVertex
from twister2.spec.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from twister2.graph.catalog import Catalog


class Rule(ABC):
    """One rewriting rule.

    :cvar name: how it is switched off. :cvar explanation: one sentence for ``explain()``.
    """

    name: ClassVar[str]
    explanation: ClassVar[str]

    @abstractmethod
    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """The changed plan, and one line for each change. Pure: the same on every worker."""


@attrs.frozen
class Applied:
    """One change that a rule made."""

    rule: str
    text: str


class Fuse(Rule):
    """Joins chains of narrow computes to one task."""

    name: ClassVar[str] = "fuse"
    explanation: ClassVar[str] = "narrow computes joined one to one run as one task: a batch is handed on by a call"

    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """Fuse each longest chain."""
        follows = {edge.sources[0]: edge for edge in plan.edges if self._joins(plan, edge, catalog)}
        inner = {edge.target for edge in follows.values()}
        lines: list[str] = []
        for name in [vertex.name for vertex in plan.vertices]:
            if name in inner or name not in follows:
                continue
            chain: list[LogicalEdge] = []
            while name in follows:
                chain.append(follows[name])
                name = follows[name].target
            plan, line = _fuse(plan, chain)
            lines.append(line)
        return plan, lines

    @staticmethod
    def _joins(plan: LogicalPlan, edge: LogicalEdge, catalog: Catalog) -> bool:
        info = catalog.info(edge.operator)
        if info is None or info.shape != "one_to_one" or info.delivers != "batches" or edge.options:
            return False
        if len(edge.sources) > 1:
            return False
        source, target = plan.vertex(edge.sources[0]), plan.vertex(edge.target)
        return (
            source.narrow
            and target.narrow
            and source.parallelism == target.parallelism
            and len(plan.outputs(source.name)) == 1
            and len(plan.inputs(target.name)) == 1
            and source.options == target.options
            and plan.fixed.get(source.name) == plan.fixed.get(target.name)
            and source.inputs.keys().isdisjoint(target.inputs)
        )


def _fuse(plan: LogicalPlan, chain: list[LogicalEdge]) -> tuple[LogicalPlan, str]:
    names = (chain[0].sources[0], *(edge.target for edge in chain))
    members = [plan.vertex(name) for name in names]
    first = members[0]
    fused = attrs.evolve(
        first,
        name="+".join(names),
        make=FusedFactory(names, tuple(edge.name for edge in chain), tuple(member.make for member in members)),
        cpus=max(member.cpus for member in members),
        memory_mb=sum(member.memory_mb for member in members),
        shows=" > ".join(member.shows for member in members),
        parts=tuple(part for member in members for part in member.parts),
        inputs={name: given for member in members for name, given in member.inputs.items()},
    )
    # The chain has one way in and one way out, so that its place in the order is that of any member: take the last.
    vertices: list[LogicalVertex] = []
    for vertex in plan.vertices:
        if vertex.name == names[-1]:
            vertices.append(fused)
        elif vertex.name not in names:
            vertices.append(vertex)
    gone = set(chain_key(edge) for edge in chain)
    edges = tuple(
        attrs.evolve(
            edge,
            sources=tuple(fused.name if source in names else source for source in edge.sources),
            target=fused.name if edge.target in names else edge.target,
        )
        for edge in plan.edges
        if chain_key(edge) not in gone
    )
    fixed = {(fused.name if name == names[0] else name): workers for name, workers in plan.fixed.items()}
    for name in names[1:]:
        fixed.pop(name, None)
    return LogicalPlan(tuple(vertices), edges, fixed), f"{' > '.join(names)} run as one task"


def chain_key(edge: LogicalEdge) -> tuple[str, str]:
    """What tells an edge from all others."""
    return edge.target, edge.name


RULES: Mapping[str, Rule] = {rule.name: rule for rule in (Fuse(),)}
"""All rules by name, in the order in which they are applied."""


def rewrite(
    plan: LogicalPlan, catalog: Catalog, without: Collection[str] = (), rules: Mapping[str, Rule] | None = None
) -> tuple[LogicalPlan, list[Applied]]:
    """Apply all rules but those named in ``without``.

    :raises GraphError: ``without`` names a rule that does not exist.
    """
    rules = RULES if rules is None else rules
    unknown = sorted(set(without) - set(rules))
    if unknown:
        raise GraphError(
            f"there is no rewriting rule {unknown[0]!r}",
            why=f"the rules are: {', '.join(rules)}",
            remedy="correct the name in without_rules",
        )
    applied: list[Applied] = []
    for name, rule in rules.items():
        if name not in without:
            plan, lines = rule.apply(plan, catalog)
            applied.extend(Applied(name, line) for line in lines)
    return plan, applied
