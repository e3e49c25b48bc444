"""Checks of a whole graph, each with an error that names the vertex or the edge."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from twister2.graph.catalog import NOTHING_KNOWN, Catalog
from twister2.spec.errors import GraphError
from twister2.spec.names import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.graph.model import Graph
    from twister2.graph.vertices import Edge, Vertex
    from twister2.spec.ops import OperatorInfo


def validate(graph: Graph, catalog: Catalog | None = None) -> None:
    """Check ``graph``; see :meth:`twister2.graph.Graph.validate`."""
    if not graph.vertices:
        raise GraphError(
            f"graph {graph.name!r} is empty",
            why="there is nothing to run",
            remedy="add a source and a sink, and connect them",
        )
    order(graph)
    fixed = graph.fixed
    for vertex in graph.vertices.values():
        _check_connected(graph, vertex, fixed.get(vertex.name))
        _check_factory(graph, vertex)
    for edge in graph.edges:
        _check_operator(graph, edge, catalog or NOTHING_KNOWN)


def order(graph: Graph) -> list[Vertex]:
    """The vertices in topological order; among equals in the order they were added.

    :raises GraphError: there is a cycle; names its vertices.
    """
    missing = {name: 0 for name in graph.vertices}
    followers: dict[str, list[str]] = {name: [] for name in graph.vertices}
    for edge in graph.edges:
        missing[edge.target] += len(edge.sources)
        for source in edge.sources:
            followers[source].append(edge.target)
    ready = [name for name, count in missing.items() if count == 0]
    done: list[str] = []
    for name in ready:  # grows while it is walked over
        done.append(name)
        for follower in followers[name]:
            missing[follower] -= 1
            if missing[follower] == 0:
                ready.append(follower)
    if len(done) < len(graph.vertices):
        cycle = _find_cycle(followers, {name for name, count in missing.items() if count})
        raise GraphError(
            f"graph {graph.name!r} has a cycle: {' -> '.join(cycle)}",
            why="a task graph has no cycles; a loop is a loop in the worker program around env.run",
            remedy="take out one of these edges",
        )
    return [graph.vertices[name] for name in done]


def _find_cycle(followers: dict[str, list[str]], left: set[str]) -> list[str]:
    # Every vertex left over has an input from one left over: walking backwards must come round.
    back = {target: name for name in left for target in followers[name] if target in left}
    path: list[str] = []
    name = min(left)
    while name not in path:
        path.append(name)
        name = back[name]
    cycle = [*path[path.index(name) :], name]
    return cycle[::-1]


def _check_connected(graph: Graph, vertex: Vertex, fixed: tuple[int, ...] | None) -> None:
    where = f"graph {graph.name!r}, {vertex.kind} {vertex.name!r}"
    if vertex.kind != "source" and not graph.inputs(vertex.name):
        raise GraphError(
            f"{vertex.kind} {vertex.name!r} has no input",
            why="nothing would ever reach it",
            remedy=f"connect something to it: graph.connect(..., {vertex.name!r})",
            where=where,
        )
    if vertex.kind != "sink" and not graph.outputs(vertex.name):
        raise GraphError(
            f"{vertex.kind} {vertex.name!r} has no output",
            why="what it emits would go nowhere",
            remedy=f"connect it to something: graph.connect({vertex.name!r}, ...)",
            where=where,
        )
    if fixed is not None and vertex.parallelism is not None and len(fixed) != vertex.parallelism:
        raise GraphError(
            f"{len(fixed)} workers are fixed for the {vertex.parallelism} tasks of {vertex.name!r}",
            why="each task needs exactly one worker",
            remedy=f"give {vertex.parallelism} worker ids to graph.place",
            where=where,
        )


def _check_factory(graph: Graph, vertex: Vertex) -> None:
    given = (0,) if vertex.planner is None else (0, None)
    if not _accepts(vertex.make, given):
        wanted = "make(index)" if vertex.planner is None else "make(index, planned)"
        raise GraphError(
            f"the factory of {vertex.name!r} cannot be called as {wanted}",
            why="a source with a planner gets the task's index and what was planned, everything else the index alone",
            remedy=f"define it as a function called as {wanted}",
            where=f"graph {graph.name!r}",
        )
    if vertex.planner is not None and not _accepts(vertex.planner, ()):
        raise GraphError(
            f"the planner of {vertex.name!r} needs arguments",
            why="it is called on one worker as planner()",
            remedy="bind what it needs with a closure or functools.partial",
            where=f"graph {graph.name!r}",
        )


def _accepts(function: Callable[..., Any], given: tuple[Any, ...]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True  # a builtin that does not tell
    try:
        signature.bind(*given)
    except TypeError:
        return False
    return True


def _check_operator(graph: Graph, edge: Edge, catalog: Catalog) -> None:
    if catalog is NOTHING_KNOWN:
        return
    plugin, _, name = edge.operator.partition(".")
    where = f"graph {graph.name!r}, edge {edge.name!r}"
    operators = catalog.of(plugin)
    info = operators.get(name)
    if info is None:
        raise GraphError(
            f"edge {edge.name!r} asks for operator {name!r}, which {plugin!r} does not have",
            why=f"its operators are: {', '.join(sorted(operators))}{did_you_mean(name, operators)}",
            remedy="correct the name, or use another ops plugin",
            where=where,
        )
    if graph.mode not in info.modes:
        raise GraphError(
            f"operator {edge.operator!r} does not work in mode {graph.mode!r}",
            why=f"it declares the modes {', '.join(sorted(info.modes))}",
            remedy="use another operator or another mode",
            where=where,
        )
    if info.inputs and info.inputs != len(edge.sources):
        raise GraphError(
            f"operator {edge.operator!r} has {_inputs(info.inputs)}, and edge {edge.name!r} connects "
            f"{_inputs(len(edge.sources))}",
            why=f"its sources are: {', '.join(map(repr, edge.sources))}",
            remedy=f'give one vertex for each input: graph.connect(["left", "right"], {edge.target!r}, ...)'
            if info.inputs > 1
            else "connect one vertex, or bring several together by net.union",
            where=where,
        )
    _check_options(edge, info, where)


def _inputs(number: int) -> str:
    return "one input" if number == 1 else f"{number} inputs"


def _check_options(edge: Edge, info: OperatorInfo, where: str) -> None:
    for option in edge.options:
        if option not in info.options:
            known = ", ".join(sorted(info.options)) or "none"
            raise GraphError(
                f"operator {edge.operator!r} has no option {option!r}",
                why=f"its options are: {known}{did_you_mean(option, info.options)}",
                remedy="correct or leave out the option",
                where=where,
            )
    for option, declared in info.options.items():
        if declared.required and option not in edge.options:
            raise GraphError(
                f"operator {edge.operator!r} needs the option {option!r}",
                why=declared.help,
                remedy=f"give it: graph.connect(..., {option}=...)",
                where=where,
            )
