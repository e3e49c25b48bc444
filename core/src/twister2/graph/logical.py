"""The logical plan: what rewriting rules read and give back. Vertices in topological order, parallelism decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from twister2.graph.stored import Given
from twister2.graph.validate import order
from twister2.graph.vertices import Kind, Mode
from twister2.spec.declarations import NOTHING, Declarations
from twister2.spec.errors import GraphError
from twister2.spec.tasks import Task
from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.graph.catalog import Catalog
    from twister2.graph.model import Graph
    from twister2.graph.vertices import Edge, Vertex


@attrs.frozen(eq=False, repr=False)
class LogicalVertex(Value):
    """A vertex with its parallelism decided and its planner's result bound.

    :ivar parts: names of the graph's vertices it stands for; more than one once it is fused. :ivar inputs: by name.
    :ivar asks: which of ``cpus``, ``memory_mb``, ``gpus`` were asked for. :ivar sizes: bytes per task, when known.
    """

    name: str
    kind: Kind
    make: Callable[[int], Task] = attrs.field(repr=False, eq=False)
    parallelism: int
    cpus: float
    memory_mb: int
    hosts: Mapping[int, tuple[str, ...]]
    options: Mapping[str, Any]
    shows: str
    narrow: bool
    two_phase: bool
    parts: tuple[str, ...]
    inputs: Mapping[str, Given] = attrs.field(factory=dict)
    gpus: int = 0
    asks: frozenset[str] = frozenset()
    sizes: tuple[int, ...] = ()
    declares: Declarations = NOTHING

    @property
    def planned(self) -> Any:
        """What its planner gave, None without one."""
        return self.make.planned if isinstance(self.make, _Planned) else None

    @property
    def n_bytes(self) -> int | None:
        """About the bytes of all records of a source, the same on every worker; None when that is not known."""
        if self.declares.n_bytes is not None:
            return self.declares.n_bytes
        if hasattr(self.planned, "n_bytes"):
            return self.planned.n_bytes  # type: ignore[no-any-return]
        return sum(self.sizes) or None

    @property
    def schema(self) -> Any:
        """The pyarrow schema of what a source gives, None when that is not known."""
        if self.declares.schema is not None:
            return self.declares.schema
        planned = getattr(self.planned, "schema", None)
        return planned if hasattr(planned, "empty_table") else None  # a program may call something else so

    def made_by(self, make: Callable[..., Task]) -> LogicalVertex:
        """The same with another ``make``, which gets what the planner gave as before."""
        bound = attrs.evolve(self.make, make=make) if isinstance(self.make, _Planned) else make
        return attrs.evolve(self, make=bound)


@attrs.frozen(eq=False, repr=False)
class LogicalEdge(Value):
    """An edge between logical vertices. :ivar arrives_as: see :class:`~twister2.spec.plan.EdgePlan`."""

    name: str
    sources: tuple[str, ...]
    target: str
    operator: str
    options: Mapping[str, Any]
    arrives_as: str = ""


@attrs.frozen(eq=False, repr=False)
class LogicalPlan(Value):
    """A graph on its way to a plan. Rules take one and give one; nothing in it is ever changed in place.

    :ivar broadcast_bytes: up to which size one side of a join may go to all targets.
    """

    vertices: tuple[LogicalVertex, ...]
    edges: tuple[LogicalEdge, ...]
    fixed: Mapping[str, tuple[int, ...]]
    mode: Mode = "batch"
    broadcast_bytes: int = 0
    _by_name: Mapping[str, LogicalVertex] = attrs.field(init=False, repr=False, eq=False)
    _into: Mapping[str, list[LogicalEdge]] = attrs.field(init=False, repr=False, eq=False)
    _out_of: Mapping[str, list[LogicalEdge]] = attrs.field(init=False, repr=False, eq=False)

    @_by_name.default
    def _index(self) -> Mapping[str, LogicalVertex]:
        return {vertex.name: vertex for vertex in self.vertices}

    @_into.default
    def _index_inputs(self) -> Mapping[str, list[LogicalEdge]]:
        into: dict[str, list[LogicalEdge]] = {}
        for edge in self.edges:
            into.setdefault(edge.target, []).append(edge)
        return into

    @_out_of.default
    def _index_outputs(self) -> Mapping[str, list[LogicalEdge]]:
        out_of: dict[str, list[LogicalEdge]] = {}
        for edge in self.edges:
            for source in dict.fromkeys(edge.sources):
                out_of.setdefault(source, []).append(edge)
        return out_of

    def vertex(self, name: str) -> LogicalVertex:
        """The vertex of that name; KeyError when there is none."""
        return self._by_name[name]

    def inputs(self, vertex: str) -> list[LogicalEdge]:
        """The edges into a vertex."""
        return list(self._into.get(vertex, ()))

    def outputs(self, vertex: str) -> list[LogicalEdge]:
        """The edges out of a vertex."""
        return list(self._out_of.get(vertex, ()))


def logical_plan(
    graph: Graph, n_workers: int, catalog: Catalog, planned: Mapping[str, Any] | None = None
) -> LogicalPlan:
    """The logical plan of a valid graph on ``n_workers`` workers.

    :param planned: results of the planners by vertex, and bytes of stored sets; a source whose planner gave nothing has
        no hosts (for ``explain``).
    :raises GraphError: two parallelisms do not fit the operator between them.
    """
    parallelism: dict[str, int] = {}
    vertices = []
    fixed = graph.fixed
    for vertex in order(graph):
        given = graph.given.get(vertex.name, {})
        for one in given.values():
            if one.whole:
                one.stored.need_one_each(n_workers)
        number = vertex.parallelism or _default_parallelism(graph, fixed, vertex, parallelism, n_workers, catalog)
        parallelism[vertex.name] = number
        logical = attrs.evolve(_logical(vertex, number, planned), inputs=given)
        stored = graph.stored.get(vertex.name)
        if stored is not None:
            size = None if planned is None else planned.get(vertex.name)
            declares = attrs.evolve(
                logical.declares, partitioned=stored.partitioned, schema=stored.schema, n_bytes=size
            )
            logical = attrs.evolve(logical, declares=declares)
        vertices.append(logical)
    for edge in graph.edges:
        _check_shape(graph, edge, parallelism, catalog)
    edges = tuple(LogicalEdge(e.name, e.sources, e.target, e.operator, dict(e.options)) for e in graph.edges)
    return LogicalPlan(tuple(vertices), edges, fixed, graph.mode)


def _default_parallelism(
    graph: Graph,
    fixed: Mapping[str, tuple[int, ...]],
    vertex: Vertex,
    known: Mapping[str, int],
    n_workers: int,
    catalog: Catalog,
) -> int:
    if vertex.name in fixed:
        return len(fixed[vertex.name])
    if vertex.kind == "source":
        return n_workers
    numbers = []
    for edge in graph.inputs(vertex.name):
        info = catalog.info(edge.operator)
        number = max(known[source] for source in edge.sources)
        if info is not None and info.shape == "one_to_one":
            return number  # no other would do
        numbers.append(1 if info is not None and info.shape == "many_to_one" else number)
    return max(numbers)


def _logical(vertex: Vertex, parallelism: int, planned: Mapping[str, Any] | None) -> LogicalVertex:
    make: Callable[[int], Task] = vertex.make
    hosts: Mapping[int, tuple[str, ...]] = {}
    sizes: tuple[int, ...] = ()
    if planned is not None and vertex.planner is not None and vertex.name in planned:
        value = planned[vertex.name]
        make = _Planned(vertex.make, value)
        hosts = _hosts(vertex, value, parallelism)
        sizes = _sizes(vertex, value, parallelism)
    return LogicalVertex(
        name=vertex.name,
        kind=vertex.kind,
        make=make,
        parallelism=parallelism,
        cpus=vertex.cpus,
        memory_mb=vertex.memory_mb,
        hosts=hosts,
        options=vertex.options,
        shows=vertex.shows or vertex.name,
        narrow=vertex.narrow,
        two_phase=vertex.two_phase,
        parts=(vertex.name,),
        gpus=vertex.gpus,
        asks=vertex.asks,
        sizes=sizes,
        declares=vertex.declares,
    )


@attrs.frozen(eq=False, repr=False)
class _Planned(Value):
    """``make(index)`` of a source whose planner has given its result."""

    make: Callable[[int, Any], Task]
    planned: Any

    def __call__(self, index: int) -> Task:
        return self.make(index, self.planned)


def _hosts(vertex: Vertex, planned: Any, parallelism: int) -> Mapping[int, tuple[str, ...]]:
    hosts = getattr(planned, "hosts", None)
    if callable(hosts):
        hosts = hosts(parallelism)
    if hosts is None:
        return {}
    if not isinstance(hosts, Mapping):
        raise GraphError(
            f"what the planner of {vertex.name!r} gave has hosts of type {type(hosts).__name__}",
            why="preferred hosts are a mapping from task index to host names",
            remedy="give a dict[int, tuple[str, ...]], or a function of the parallelism that returns one",
        )
    return {int(index): _names(names) for index, names in hosts.items()}


def _sizes(vertex: Vertex, planned: Any, parallelism: int) -> tuple[int, ...]:
    sizes = getattr(planned, "sizes", None)
    if callable(sizes):
        sizes = sizes(parallelism)
    if sizes is None:
        return ()
    if not isinstance(sizes, Sequence) or len(sizes) != parallelism:
        raise GraphError(
            f"what the planner of {vertex.name!r} gave has sizes that do not fit: {sizes!r}"[:300],
            why=f"sizes are the bytes that each of its {parallelism} tasks reads",
            remedy="give a list with a number for each task, or a function of the parallelism that returns one",
        )
    return tuple(int(size) for size in sizes)


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _check_shape(graph: Graph, edge: Edge, parallelism: Mapping[str, int], catalog: Catalog) -> None:
    info = catalog.info(edge.operator)
    if info is None or info.shape != "one_to_one":
        return
    after = parallelism[edge.target]
    for source in edge.sources:
        before = parallelism[source]
        if before != after:
            raise GraphError(
                f"edge {edge.name!r} joins {before} tasks of {source!r} to {after} of {edge.target!r} one to one",
                why=f"operator {edge.operator!r} sends task k to task k, so both sides need the same parallelism",
                remedy="make the parallelisms equal, or use an operator that spreads records, such as net.partition",
                where=f"graph {graph.name!r}",
            )
