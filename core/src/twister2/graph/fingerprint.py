"""Fingerprints of graphs: a hash of the shape that is equal in every process that builds the same graph.

Names, kinds, parallelism, operators, names of options, and the qualified names and first lines of functions count.
Numbers and data given as options do not: they may be read from what a worker computed.
"""

from __future__ import annotations

import functools
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from twister2.graph.returned import backend_name
from twister2.spec.reducers import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twister2.graph.model import Graph
    from twister2.spec.plan import EdgePlan, Placement, VertexPlan


def graph_fingerprint(graph: Graph) -> str:
    """16 hexadecimal digits for the shape of ``graph``."""
    parts = [f"graph {graph.name} {graph.mode}", *sorted(graph.without_rules)]
    if graph.scheduler is not None:
        parts.append(f"scheduler {backend_name(graph.scheduler)}")
    for vertex in graph.vertices.values():
        described = f"{vertex.name} {vertex.kind} {vertex.parallelism} {describe(vertex.make)}"
        parts.append(f"vertex {described} {describe(vertex.planner)} {_options(vertex.options)}")
    for edge in graph.edges:
        joined = f"{'+'.join(edge.sources)} {edge.target}"
        parts.append(f"edge {edge.name} {joined} {edge.operator} {_options(edge.options)}")
    parts.extend(f"given {name} {' '.join(given)}" for name, given in sorted(graph.given.items()))
    parts.extend(f"fixed {name} {workers}" for name, workers in sorted(graph.fixed.items()))
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def plan_fingerprint(
    graph: Graph, vertices: Iterable[VertexPlan], edges: Iterable[EdgePlan], placement: Placement
) -> str:
    """16 hexadecimal digits for a plan: the graph, what rules made of it, and where the tasks lie.

    Workers that plan differently (a scheduler of the program's own that is no pure function, a rule that read something
    local) notice it in the first step of the run.
    """
    parts = [graph_fingerprint(graph)]
    parts.extend(f"{vertex.name} {','.join(map(str, placement.workers[vertex.name]))}" for vertex in vertices)
    for edge in edges:
        decided = f"{_options(edge.options)} {edge.options.get('in_place')}"  # by rules, from sizes and how pairs lie
        parts.append(f"{edge.number} {'+'.join(edge.sources)} {edge.target} {edge.operator} {decided}")
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def describe(value: Any) -> str:
    """A stable name of a value: of a function where it is defined, of text itself, of anything else its type."""
    if value is None or isinstance(value, (bool, str)):
        return repr(value)
    if isinstance(value, functools.partial):
        return f"partial({describe(value.func)})"
    if callable(value):
        name = getattr(value, "__qualname__", "") or getattr(value, "__name__", "")  # ufuncs may have the latter only
        if not name:
            known = name_of(value)  # of mpi4py's ops
            name = repr(known) if known else type(value).__qualname__
        code = getattr(value, "__code__", None)
        return f"{name}:{code.co_firstlineno}" if code is not None else str(name)
    return type(value).__qualname__


def _options(options: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={describe(options[key])}" for key in sorted(options))
