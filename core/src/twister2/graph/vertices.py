"""Vertices and edges of a task graph: what was asked for them, and what the classes of their tasks declare."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from twister2.spec.declarations import NOTHING, Declarations
from twister2.spec.errors import GraphError
from twister2.spec.tasks import Sink, Task

Kind: TypeAlias = Literal["source", "compute", "sink"]
Mode: TypeAlias = Literal["batch", "stream"]


@attrs.frozen(eq=False)
class Vertex:
    """One vertex of a graph.

    :ivar make: ``make(index) -> Task``, or ``make(index, planned) -> Source`` for a source with a planner.
    :ivar parallelism: number of tasks. None: for a source one per worker; else the largest of its inputs, or 1 behind
        an operator that brings everything to one task.
    :ivar planner: ``planner() -> planned``, called on one worker when the graph is planned; every worker gets the
        result. A result with ``hosts`` (a mapping task index -> host names, or a function of the parallelism that
        returns one) tells task schedulers where the data is, one with ``sizes`` (a number for each task, or such a
        function) how many bytes each task reads.
    :ivar cpus, memory_mb, gpus: per task, for task schedulers that fit. :ivar asks: which of them were given.
    :ivar options: plain data for the tasks' context and for constraints.
    :ivar shows: what ``explain()`` prints for it.
    :ivar narrow: each batch is handled by itself, so that it may be joined with its neighbours (rule ``fuse``). Of a
        compute or sink also that any thread may call it: those of the pool do, when what it is joined with is blocking.
    :ivar two_phase: a sink whose tasks take part in the two-phase commit at the end of a run.
    :ivar declares: what else rewriting rules may know of it.
    """

    name: str
    kind: Kind
    make: Callable[..., Task] = attrs.field(repr=False)
    parallelism: int | None
    planner: Callable[[], Any] | None = attrs.field(default=None, repr=False)
    cpus: float = 1.0
    memory_mb: int = 0
    options: Mapping[str, Any] = attrs.field(factory=dict)
    shows: str = ""
    narrow: bool = False
    two_phase: bool = False
    gpus: int = 0
    asks: frozenset[str] = frozenset()
    declares: Declarations = NOTHING


@attrs.frozen(eq=False)
class Edge:
    """One edge of a graph.

    :ivar name: how tasks call it, unique among the edges of its sources and of its target.
    :ivar sources: one vertex; of an operator with several inputs (a join: left, right) one for each, in order. A vertex
        may stand there twice.
    :ivar operator: ``"<ops plugin>.<operator>"``.
    """

    name: str
    sources: tuple[str, ...]
    target: str
    operator: str
    options: Mapping[str, Any] = attrs.field(factory=dict)


def check_vertex(vertex: Vertex, where: str) -> None:
    """:raises GraphError: name, parallelism or a factory makes no sense."""
    if not vertex.name:
        raise GraphError("a vertex has no name", why="tasks are known by it", remedy="give it one", where=where)
    number: Any = vertex.parallelism
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        raise GraphError(
            f"vertex {vertex.name!r} has parallelism {number!r}",
            why="the parallelism is the number of tasks: a whole number, 1 or more",
            remedy="give a positive number, or None for the default",
            where=where,
        )
    for label, factory in (("make", vertex.make), ("planner", vertex.planner)):
        if not callable(factory) and not (label == "planner" and factory is None):
            raise GraphError(
                f"{label} of vertex {vertex.name!r} is {type(factory).__name__}, not a function",
                why="tasks are made on the worker that runs them",
                remedy="give a function or class, e.g. lambda index: MyTask()",
                where=where,
            )


def asking(vertex: Vertex, cpus: float | None, memory_mb: int | None, gpus: int | None) -> Vertex:
    """The vertex with what was asked for its tasks.

    :raises GraphError: a wish makes no sense.
    """
    wishes = {"cpus": cpus, "memory_mb": memory_mb, "gpus": gpus}
    asked: dict[str, Any] = {name: wish for name, wish in wishes.items() if wish is not None}
    for name, wish in asked.items():
        numbers = (int, float) if name == "cpus" else int
        if isinstance(wish, bool) or not isinstance(wish, numbers) or not 0 <= wish < float("inf"):
            raise GraphError(
                f"vertex {vertex.name!r} asks for {name} = {wish!r}",
                why=f"it is what one task needs: a {'' if name == 'cpus' else 'whole '}number, 0 or more",
                remedy="correct it, or leave it out",
            )
    return attrs.evolve(vertex, **asked, asks=frozenset(asked))


def declarer(make: Callable[..., Any]) -> Any:
    """What carries the declarations (class attributes) of the tasks that ``make`` gives: inside of a partial."""
    while isinstance(make, functools.partial):
        make = make.func
    return make


def declared(make: Callable[..., Any], given: Declarations | None) -> Declarations:
    """What was declared for a vertex, else what ``make`` declares."""
    found = getattr(declarer(make), "declares", None) if given is None else given
    if found is not None and not isinstance(found, Declarations):
        raise GraphError(
            f"declares is {type(found).__name__}",
            why="what a vertex declares is an object of twister2.spec.declarations.Declarations",
            remedy="give declares=Declarations(...)",
        )
    return NOTHING if found is None else found


def declares_narrow(make: Callable[..., Any]) -> bool:
    """Whether what ``make`` gives says that it handles each batch by itself."""
    return bool(getattr(declarer(make), "narrow", False))


def declares_two_phase(make: Callable[..., Any]) -> bool:
    """Whether a sink made so takes part in prepare and commit."""
    maker = declarer(make)
    declared = getattr(maker, "two_phase", None)
    if declared is not None:
        return bool(declared)
    if isinstance(maker, type) and issubclass(maker, Sink):
        return maker.prepare is not Sink.prepare or maker.commit is not Sink.commit
    return True
