"""The task graph: sources, computes and sinks, joined by named edges that carry a communication operator.

Every worker builds the same graph and gives it to ``env.run``. A graph is cheap to build, says at once what is wrong
with a single call, and checks the whole in :meth:`Graph.validate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from twister2.graph.schedulers import check_scheduler
from twister2.graph.stored import Given, Keeping, Level, Stored, StoredSource
from twister2.graph.vertices import (
    Edge,
    Mode,
    Vertex,
    asking,
    check_vertex,
    declared,
    declares_narrow,
    declares_two_phase,
)
from twister2.spec.errors import GraphError

if TYPE_CHECKING:
    from twister2.graph.catalog import Catalog
    from twister2.spec.declarations import Declarations
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.sched import TaskScheduler
    from twister2.spec.tasks import Task


Outputs: TypeAlias = Mapping[str, list[Any]]
"""What a run left on this worker: sink name -> what each of its local tasks kept, in order of task index."""


class Graph:
    """A task graph under construction.

    :param name: for people and for progress displays.
    :param mode: ``"batch"`` (everything ends) or ``"stream"``.
    :param constraints: for the task scheduler: ``{"max_tasks_per_worker": 4}``; ``{"group": ["parse", "match"]}`` for
        vertices whose tasks ``k`` must lie on one worker.
    :param without_rules: names of rewriting rules that must not be applied to this graph.
    :param scheduler: places the tasks of this graph in place of the job's task scheduler (``job.sched``). Every worker
        makes one, and all must place alike.
    """

    def __init__(
        self,
        name: str = "",
        mode: Mode = "batch",
        *,
        constraints: Mapping[str, Any] | None = None,
        without_rules: Iterable[str] = (),
        scheduler: TaskScheduler | None = None,
    ) -> None:
        check_scheduler(scheduler, f"graph {name!r}")
        if mode not in ("batch", "stream"):
            raise GraphError(
                f"graph {name!r} has mode {mode!r}",
                why="a graph is either bounded (batch) or endless (stream)",
                remedy='use mode="batch" or mode="stream"',
            )
        self.name = name
        self.mode: Mode = mode
        self.constraints: dict[str, Any] = dict(constraints or {})
        self.without_rules = frozenset(without_rules)
        self.scheduler = scheduler
        self.vertices: dict[str, Vertex] = {}
        self.edges: list[Edge] = []
        self._into: dict[str, list[Edge]] = {}
        self._out_of: dict[str, list[Edge]] = {}
        self._names: dict[tuple[str, str], set[str]] = {}
        """Names of edges by vertex and whether they go in or out."""
        self._numbers: dict[str, int] = {}
        """By a name that was wanted several times: the last number given to it."""
        self.kept: dict[str, Stored] = {}
        """By sink: the set that a run fills."""
        self.stored: dict[str, Stored] = {}
        """By source: the set that it reads."""
        self.given: dict[str, dict[str, Given]] = {}
        """By vertex: its named inputs."""
        self._fixed: dict[str, tuple[int, ...]] = {}
        self._changes = 0

    def __repr__(self) -> str:
        return f"<Graph {self.name!r}: {len(self.vertices)} vertices, {len(self.edges)} edges>"

    @property
    def version(self) -> tuple[int, ...]:
        """Another one after every change, also of where stored sets lie that it reads: plans made before are stale."""
        return (self._changes, *(stored.layout for stored in self._read()))

    @property
    def fixed(self) -> dict[str, tuple[int, ...]]:
        """By vertex: the workers of its tasks, where they were placed or follow from a stored set.

        :raises UsageError: there is nothing in a stored set yet. :raises GraphError: two of them lie differently.
        """
        found = {name: stored.workers for name, stored in self.stored.items()}
        for name, given in self.given.items():
            for label, one in given.items():
                if one.whole:
                    continue
                if found.setdefault(name, one.stored.workers) != one.stored.workers:
                    raise GraphError(
                        f"input {label!r} of {name!r} lies on the workers {list(one.stored.workers)}, another of its "
                        f"inputs on {list(found[name])}",
                        why="task i gets partition i of each, where they lie",
                        remedy="keep both sets with the same parallelism and placement, or give one with whole=True",
                        where=f"graph {self.name!r}",
                    )
        return {**found, **self._fixed}

    # -- building ------------------------------------------------------------------------------------------------------

    def add_source(  # noqa: PLR0913 - one for each wish
        self,
        name: str,
        make: Callable[..., Task],
        parallelism: int | None = None,
        *,
        planner: Callable[[], Any] | None = None,
        cpus: float | None = None,
        memory_mb: int | None = None,
        gpus: int | None = None,
        options: Mapping[str, Any] | None = None,
        shows: str = "",
        narrow: bool | None = None,
        declares: Declarations | None = None,
    ) -> Vertex:
        """Add a vertex without inputs: ``make(index)``, with a planner ``make(index, planned)``, gives its tasks.

        :param cpus, memory_mb, gpus: what each task needs, for task schedulers that fit; None: nothing is asked for.
        :param narrow: whether it may run as one task with a narrow compute behind it; None: what ``make``
            declares in its attribute ``narrow``.
        :raises GraphError: the name is taken, or a value makes no sense.
        """
        narrow = declares_narrow(make) if narrow is None else narrow
        vertex = Vertex(
            name,
            "source",
            make,
            parallelism,
            planner,
            options=dict(options or {}),
            shows=shows,
            narrow=narrow,
            declares=declared(make, declares),
        )
        return self._add(asking(vertex, cpus, memory_mb, gpus))

    def add_compute(  # noqa: PLR0913 - one for each wish
        self,
        name: str,
        make: Callable[[int], Task],
        parallelism: int | None = None,
        *,
        cpus: float | None = None,
        memory_mb: int | None = None,
        gpus: int | None = None,
        options: Mapping[str, Any] | None = None,
        shows: str = "",
        narrow: bool | None = None,
        declares: Declarations | None = None,
    ) -> Vertex:
        """Add a vertex with inputs and outputs: ``make(index)`` gives its tasks.

        :param narrow: whether each batch is handled by itself; None: what the class (or the function) ``make`` declares
            in its attribute ``narrow``.
        :param declares: what else rewriting rules may know; None: the attribute ``declares`` of ``make``.
        :raises GraphError: the name is taken, or a value makes no sense.
        """
        narrow = declares_narrow(make) if narrow is None else narrow
        vertex = Vertex(
            name,
            "compute",
            make,
            parallelism,
            options=dict(options or {}),
            shows=shows,
            narrow=narrow,
            declares=declared(make, declares),
        )
        return self._add(asking(vertex, cpus, memory_mb, gpus))

    def add_sink(  # noqa: PLR0913 - one for each wish
        self,
        name: str,
        make: Callable[[int], Task],
        parallelism: int | None = None,
        *,
        cpus: float | None = None,
        memory_mb: int | None = None,
        gpus: int | None = None,
        options: Mapping[str, Any] | None = None,
        shows: str = "",
        two_phase: bool | None = None,
        narrow: bool | None = None,
        declares: Declarations | None = None,
    ) -> Vertex:
        """Add a vertex without outputs: ``make(index)`` gives its tasks.

        :param two_phase: whether the run ends with prepare and commit of this sink. None: what the class (or function)
            ``make`` declares in its attribute ``two_phase``; else a class that overrides neither ``prepare`` nor
            ``commit`` needs none, and anything else has it.
        :param narrow: whether it may run as one task with a narrow compute before it, also in a thread of the pool;
            None: what ``make`` declares in its attribute ``narrow``.
        :param declares: as in :meth:`add_compute`.
        :raises GraphError: the name is taken, or a value makes no sense.
        """
        if two_phase is None:
            two_phase = declares_two_phase(make)
        narrow = declares_narrow(make) if narrow is None else narrow
        given = dict(options or {})
        told = declared(make, declares)
        vertex = Vertex(name, "sink", make, parallelism, None, 1.0, 0, given, shows, narrow, two_phase, declares=told)
        return self._add(asking(vertex, cpus, memory_mb, gpus))

    def connect(
        self,
        source: str | Vertex | Sequence[str | Vertex],
        target: str | Vertex,
        operator: str = "net.direct",
        name: str | None = None,
        **options: Any,
    ) -> Edge:
        """Connect vertices by an operator; ``options`` are the operator's.

        :param source: the vertex whose tasks send; for an operator with several inputs one vertex for each, in order:
            ``graph.connect(["left", "right"], "joined", "net.join")``.
        :param name: how tasks call the edge; ``"source->target"`` when None.
        :raises GraphError: an unknown vertex, a self loop, an edge out of a sink or into a source, or a name that its
            source or target already uses.
        """
        several = [source] if isinstance(source, (str, Vertex)) else source
        firsts, last = [self.vertex(one) for one in several], self.vertex(target)
        plain = f"{'+'.join(first.name for first in firsts)}->{last.name}"
        where = f"graph {self.name!r}, edge {name or plain!r}"
        if not firsts:
            raise GraphError(
                f"nothing is connected to {last.name!r}",
                why="the list of sources is empty",
                remedy="name the vertex, or one vertex for each input of the operator",
                where=where,
            )
        for first in firsts:
            if first is last:
                raise GraphError(
                    f"vertex {first.name!r} is connected to itself",
                    why="a task graph has no cycles; a loop is a loop in the worker program around env.run",
                    remedy="add another vertex, or run the graph in a Python loop",
                    where=where,
                )
            if first.kind == "sink":
                raise GraphError(
                    f"sink {first.name!r} has an output",
                    why="nothing leaves a sink",
                    remedy="use add_compute",
                    where=where,
                )
        if last.kind == "source":
            raise GraphError(
                f"source {last.name!r} has an input",
                why="nothing enters a source",
                remedy="use add_compute",
                where=where,
            )
        if "." not in operator.strip("."):
            raise GraphError(
                f"operator {operator!r} does not name its plugin",
                why="an operator is called '<ops plugin>.<operator>'",
                remedy=f"write 'net.{operator.strip('.')}' or the name of another ops plugin in front",
                where=where,
            )
        sources = tuple(first.name for first in firsts)
        edge = Edge(self._edge_name(sources, last.name, name, plain), sources, last.name, operator, options)
        self.edges.append(edge)
        self._into.setdefault(edge.target, []).append(edge)
        for one in dict.fromkeys(sources):
            self._out_of.setdefault(one, []).append(edge)
        self._changes += 1
        return edge

    def place(self, vertex: str | Vertex, workers: Sequence[int]) -> None:
        """Fix the workers of a vertex's tasks: task ``i`` runs on worker id ``workers[i]``."""
        self._fixed[self.vertex(vertex).name] = tuple(workers)
        self._changes += 1

    # -- what stays on the workers -------------------------------------------------------------------------------------

    def keep(
        self,
        source: str | Vertex | Sequence[str | Vertex],
        operator: str = "net.direct",
        *,
        name: str = "",
        into: Stored | None = None,
        parallelism: int | None = None,
        level: Level = "memory",
        **options: Any,
    ) -> Stored:
        """Keep what comes from ``source`` by ``operator`` on the workers that get it, for later graphs.

        :param name: of the set, and of the edge, by which a task with several outputs sends to it, unless another
            edge has that name; ``"kept SOURCE"``, and the edge has none of its own, when empty.
        :param into: the set to fill; a new one when None. A graph may read the set it keeps: the new content takes the
            old one's place when the run has succeeded.
        :param parallelism: number of partitions, as in :meth:`add_sink`. :param level: as :class:`Stored`.
        :returns: the set; each successful run of this graph fills it anew.
        :raises GraphError: as :meth:`connect`.
        """
        several = [source] if isinstance(source, (str, Vertex)) else list(source)
        names = [one.name if isinstance(one, Vertex) else one for one in several]
        taken = any(name in self._names.get((one, "out"), ()) for one in names)
        edge = None if taken else name or None
        if not name:
            name = into.name if into is not None else f"kept {names[0] if names else 'nothing'}"
        stored = Stored(name, level) if into is None else into
        sink = self.add_sink(
            self._free(f"keep {name}"),
            lambda index: Keeping(stored),
            parallelism,
            shows=f"keeps {name}",
            two_phase=False,
        )
        self.connect(source, sink, operator, edge, **options)
        self.kept[sink.name] = stored
        return stored

    def add_stored(self, stored: Stored, name: str | None = None) -> Vertex:
        """Add a source of a stored set's records. Its tasks run where the partitions lie.

        :raises GraphError: the name is taken.
        """
        vertex = self.add_source(
            self._free(stored.name) if name is None else name,
            lambda index: StoredSource(stored.partition(index)),
            narrow=True,
            shows=f"the stored set {stored.name}",
        )
        self.stored[vertex.name] = stored
        return vertex

    def give(self, vertex: str | Vertex, name: str, stored: Stored, *, whole: bool = False) -> None:
        """Give the tasks of a vertex a stored set: ``context.inputs[name]`` is a
        :class:`~twister2.spec.stored.Partition`.

        :param whole: every task gets the partition on its worker, of a set that has one on each. Else task ``i`` gets
            partition ``i`` and runs where that lies.
        :raises GraphError: the vertex has an input of that name.
        """
        given = self.given.setdefault(self.vertex(vertex).name, {})
        if name in given:
            raise GraphError(
                f"two inputs of {self.vertex(vertex).name!r} are called {name!r}",
                why="a task finds its inputs by name",
                remedy="give one of them another name",
                where=f"graph {self.name!r}",
            )
        given[name] = Given(stored, whole)
        self._changes += 1

    # -- reading -------------------------------------------------------------------------------------------------------

    def vertex(self, name: str | Vertex) -> Vertex:
        """The vertex of that name.

        :raises GraphError: there is none; names those there are.
        """
        if isinstance(name, Vertex):
            if self.vertices.get(name.name) is name:
                return name
            name = name.name
        try:
            return self.vertices[name]
        except KeyError:
            raise GraphError(
                f"graph {self.name!r} has no vertex {name!r}",
                why=f"its vertices are: {', '.join(map(repr, self.vertices)) or 'none'}",
                remedy="add the vertex before connecting it, or correct the name",
            ) from None

    def inputs(self, vertex: str) -> list[Edge]:
        """The edges into a vertex, in the order they were made."""
        return list(self._into.get(vertex, ()))

    def outputs(self, vertex: str) -> list[Edge]:
        """The edges out of a vertex, in the order they were made."""
        return list(self._out_of.get(vertex, ()))

    def validate(self, catalog: Catalog | None = None) -> None:
        """Check the whole graph.

        :param catalog: what is known of operators; without one their options are not checked.
        :raises GraphError: names the vertex or edge and what is wrong with it.
        """
        from twister2.graph.validate import validate

        validate(self, catalog)

    def fingerprint(self) -> str:
        """A hash of the graph's shape: equal in every process that builds the same graph."""
        from twister2.graph.fingerprint import graph_fingerprint

        return graph_fingerprint(self)

    def explain(self, env: WorkerEnvironment | None = None) -> str:
        """The graph as text for a terminal; with ``env`` the plan it leads to there: rules, tasks and workers."""
        from twister2.graph.explain import explain

        return explain(self, env)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _add(self, vertex: Vertex) -> Vertex:
        where = f"graph {self.name!r}, vertex {vertex.name!r}"
        if vertex.name in self.vertices:
            raise GraphError(
                f"two vertices are called {vertex.name!r}",
                why="plans, outputs and messages know a vertex by its name",
                remedy="give one of them another name",
                where=where,
            )
        check_vertex(vertex, where)
        self.vertices[vertex.name] = vertex
        self._changes += 1
        return vertex

    def _free(self, wanted: str) -> str:
        name = wanted
        while name in self.vertices:
            number = self._numbers[wanted] = self._numbers.get(wanted, 1) + 1
            name = f"{wanted} #{number}"
        return name

    def _read(self) -> Iterable[Stored]:
        yield from self.stored.values()
        for given in self.given.values():
            for one in given.values():
                yield one.stored

    def _edge_name(self, sources: tuple[str, ...], target: str, name: str | None, plain: str) -> str:
        near = [self._names.setdefault((target, "in"), set())]
        near += [self._names.setdefault((source, "out"), set()) for source in dict.fromkeys(sources)]
        if name is not None and any(name in names for names in near):
            raise GraphError(
                f"two edges of {', '.join(map(repr, sources))} or {target!r} are called {name!r}",
                why="a task tells its edges apart by their names",
                remedy="give one of them another name",
                where=f"graph {self.name!r}",
            )
        candidate = plain if name is None else name
        while any(candidate in names for names in near):
            number = self._numbers[plain] = self._numbers.get(plain, 1) + 1
            candidate = f"{plain} #{number}"
        for names in near:
            names.add(candidate)
        return candidate
