"""Rule ``fuse``: chains of narrow steps become one task."""

from __future__ import annotations

from itertools import dropwhile
from typing import TYPE_CHECKING, ClassVar

import attrs

from twister2.graph.fused import FusedFactory
from twister2.graph.fused_ends import FusedSinkFactory, FusedSourceFactory
from twister2.graph.rules.rule import Rule
from twister2.graph.rules.ways import hands_on
from twister2.spec.declarations import Declarations

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalEdge, LogicalPlan, LogicalVertex
    from twister2.spec.tasks import Task


class Fuse(Rule):
    """Joins chains of narrow steps to one task; in batch graphs also with a narrow source or sink at an end."""

    name: ClassVar[str] = "fuse"
    explanation: ClassVar[str] = "narrow steps joined one to one run as one task: a batch is handed on by a call"

    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """Fuse each longest chain."""
        follows = {edge.sources[0]: edge for edge in plan.edges if self._joins(plan, edge, catalog)}
        inner = {edge.target for edge in follows.values()}
        chains: list[list[LogicalEdge]] = []
        for vertex in plan.vertices:
            name = vertex.name
            if name in inner or name not in follows:
                continue
            chain: list[LogicalEdge] = []
            while name in follows:
                chain.append(follows[name])
                name = follows[name].target
            if plan.vertex(name).kind == "sink" and not _takes(plan, chain):
                chain.pop()
            if chain:
                chains.append(chain)
        return (_fuse(plan, chains, catalog), [_line(chain) for chain in chains]) if chains else (plan, [])

    @staticmethod
    def _joins(plan: LogicalPlan, edge: LogicalEdge, catalog: Catalog) -> bool:
        if not hands_on(edge, catalog):
            return False
        source, target = plan.vertex(edge.sources[0]), plan.vertex(edge.target)
        return (
            source.narrow
            and (target.narrow or (target.kind == "sink" and source.declares.passes_on))
            and source.parallelism == target.parallelism
            and len(plan.outputs(source.name)) == 1
            and len(plan.inputs(target.name)) == 1
            and _places_fit(plan, source, target)
            and source.inputs.keys().isdisjoint(target.inputs)
            and _kinds_fit(source, target, plan.mode)
        )


def _takes(plan: LogicalPlan, chain: list[LogicalEdge]) -> bool:
    """Whether the sink at the end of a chain can be in one task with the rest: a task is a source or a sink, and what
    is not narrow is not called in a thread of the pool, as the computes before it may have to be.
    """
    before = [plan.vertex(edge.sources[0]) for edge in chain]
    if before[0].kind == "source":
        return False
    return plan.vertex(chain[-1].target).narrow or all(vertex.declares.passes_on for vertex in before)


def _places_fit(plan: LogicalPlan, source: LogicalVertex, target: LogicalVertex) -> bool:
    """What follows the source of a stored set, or a step that passes on where an exchange has put it, would be placed
    with it anyway.
    """
    before, after = plan.fixed.get(source.name), plan.fixed.get(target.name)
    return before == after or (after is None and (source.kind == "source" or source.declares.passes_on))


def _kinds_fit(source: LogicalVertex, target: LogicalVertex, mode: str) -> bool:
    kinds = (source.kind, target.kind)
    if kinds == ("compute", "compute"):
        return source.options == target.options
    if mode != "batch" or kinds == ("source", "sink"):
        return False
    # The options of a source are its own; which functions are called elsewhere is said for a vertex as a whole.
    offloaded = any(vertex.options.get(name) for vertex in (source, target) for name in ("blocking", "releases_gil"))
    return not offloaded and (kinds[0] == "source" or source.options == target.options)


def _names(chain: list[LogicalEdge]) -> tuple[str, ...]:
    return (chain[0].sources[0], *(edge.target for edge in chain))


def _line(chain: list[LogicalEdge]) -> str:
    return f"{' > '.join(_names(chain))} run as one task"


def _fuse(plan: LogicalPlan, chains: list[list[LogicalEdge]], catalog: Catalog) -> LogicalPlan:
    """The plan with one vertex for each chain, made in one go."""
    renamed: dict[str, str] = {}
    at_end: dict[str, LogicalVertex] = {}
    inside: set[tuple[str, str]] = set()
    arrives: dict[str, str] = {}
    for chain in chains:
        fused, first = _vertex(plan, chain, catalog)
        names = _names(chain)
        renamed.update(dict.fromkeys(names, fused.name))
        # The chain has one way in and one way out, so that its place in the order is that of any member: take the last.
        at_end[names[-1]] = fused
        inside.update(chain_key(edge) for edge in chain)
        arrives[names[0]] = first
    vertices = tuple(
        at_end.get(vertex.name, vertex)
        for vertex in plan.vertices
        if vertex.name in at_end or vertex.name not in renamed
    )
    edges = tuple(
        attrs.evolve(
            edge,
            sources=tuple(renamed.get(source, source) for source in edge.sources),
            target=renamed.get(edge.target, edge.target),
            arrives_as=arrives.get(edge.target, edge.arrives_as),
        )
        for edge in plan.edges
        if chain_key(edge) not in inside
    )
    fixed = {renamed.get(name, name): workers for name, workers in plan.fixed.items()}
    return attrs.evolve(plan, vertices=vertices, edges=edges, fixed=fixed)


def _vertex(plan: LogicalPlan, chain: list[LogicalEdge], catalog: Catalog) -> tuple[LogicalVertex, str]:
    """The vertex that stands for a chain, and how the first task of it that does anything calls what comes: empty when
    that is the first of the chain.
    """
    names = _names(chain)
    members = [plan.vertex(name) for name in names]
    first, last = members[0], members[-1]
    working = list(dropwhile(lambda member: member.declares.passes_on, members[:-1])) + members[-1:]
    left_out = len(members) - len(working)
    asking = [member for member in members if "cpus" in member.asks] or members
    fused = attrs.evolve(
        first,
        # What a sink keeps and where it lies is known by the sink's name.
        name=last.name if last.kind == "sink" else "+".join(names),
        kind=last.kind if last.kind == "sink" else first.kind,
        two_phase=last.two_phase,
        make=_factory(working, tuple(edge.name for edge in chain[left_out:]), _is_combined(plan, last, catalog)),
        cpus=max(member.cpus for member in asking),  # the parts run one after another
        memory_mb=sum(member.memory_mb for member in members),
        gpus=max(member.gpus for member in members),
        asks=frozenset().union(*(member.asks for member in members)),
        shows=" > ".join(member.shows for member in members),
        parts=tuple(part for member in members for part in member.parts),
        inputs={name: given for member in members for name, given in member.inputs.items()},
        declares=_declared(members),
    )
    return fused, chain[left_out - 1].name if left_out else ""


def _declared(members: list[LogicalVertex]) -> Declarations:
    """What is still asked when a graph is planned: how the records lie that stored sets keep."""
    keeps = all(member.declares.keeps_keys for member in members if member.kind == "compute")
    return Declarations(keeps_keys=keeps, partitioned=members[0].declares.partitioned if keeps else None)


def _is_combined(plan: LogicalPlan, last: LogicalVertex, catalog: Catalog) -> bool:
    """Whether everything that leaves a vertex is combined where it is."""
    operators = [catalog.info(edge.operator) for edge in plan.outputs(last.name)]
    return bool(operators) and all(info is not None and info.combines for info in operators)


def _factory(members: list[LogicalVertex], edges: tuple[str, ...], combined: bool) -> Callable[[int], Task]:
    names, makes = tuple(member.name for member in members), tuple(member.make for member in members)
    if members[-1].kind == "sink" and len(members) == 1:
        return makes[0]
    if members[-1].kind == "sink":
        return FusedSinkFactory(names, edges, makes)
    if members[0].kind == "source":
        chain = FusedFactory(names[1:], edges[1:], makes[1:])
        in_pieces = combined and all(member.declares.by_record for member in members[1:])
        return FusedSourceFactory(names[0], makes[0], edges[0], chain, members[1].options, in_pieces)
    return FusedFactory(names, edges, makes)


def chain_key(edge: LogicalEdge) -> tuple[str, str]:
    """What tells an edge from all others."""
    return edge.target, edge.name
