"""The lazy DAG behind a set, and its compilation to a task graph."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeGuard

import attrs

from twister2.graph import Graph, Stored
from twister2.spec.declarations import NOTHING, Declarations
from twister2.spec.tasks import Compute, Emit, Sink, Source
from twister2.spec.values import Value
from twister2_tset.functions import wants_context

if TYPE_CHECKING:
    from twister2.spec.batch import Batch
    from twister2.spec.sched import TaskScheduler


@attrs.frozen(eq=False, repr=False)
class Node:
    """One step of a set.

    :ivar step: name of the operation. :ivar line: ``file.py:12``, where the user wrote it.
    :ivar shows: what ``explain()`` prints for it. :ivar given: stored sets that its functions get, by name.
    :ivar name: that the user gave it; empty for none.
    """

    step: str
    line: str
    shows: str
    given: Mapping[str, StoredNode] = attrs.field(factory=dict, kw_only=True)
    name: str = attrs.field(default="", kw_only=True)

    @property
    def title(self) -> str:
        """Name for graphs and errors: ``"map (count.py:7)"``, ``"words: map (count.py:7)"``."""
        plain = f"{self.step} ({self.line})"
        return f"{self.name}: {plain}" if self.name else plain

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes it follows; none for a source."""
        return ()

    @property
    def replicated(self) -> bool:
        """Whether there is one partition on each worker, all with the same records."""
        return False

    def add_to(self, graph: Graph, name: str, before: Sequence[str], n_workers: int) -> None:
        """Add the vertex, and the edge from the vertices of its inputs."""
        raise TypeError(f"{type(self).__name__} is no step")


@attrs.frozen(eq=False, repr=False)
class SourceNode(Node):
    """Where records come from; ``make`` as in ``Graph.add_source``, ``schema`` as in :class:`StepNode`."""

    make: Callable[..., Source]
    partitions: int
    planner: Callable[[], Any] | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    declares: Declarations | None = None
    schema: Any = None

    def add_to(self, graph: Graph, name: str, before: Sequence[str], n_workers: int) -> None:
        """See :meth:`Node.add_to`."""
        graph.add_source(
            name,
            self.make,
            self.partitions,
            planner=self.planner,
            options=self.options,
            shows=self.shows,
            declares=self.declares,
        )


@attrs.frozen(eq=False, repr=False)
class StoredNode(Node):
    """The records of a stored set, where they lie.

    :ivar of: what fills it; it is run when the set is needed and nothing is in it.
    """

    stored: Stored
    of: Node

    @property
    def replicated(self) -> bool:
        """See :attr:`Node.replicated`."""
        return _is_replicated(self)

    def add_to(self, graph: Graph, name: str, before: Sequence[str], n_workers: int) -> None:
        """See :meth:`Node.add_to`."""
        graph.add_stored(self.stored, name)


class Kept(Compute):
    """Stands for a stored set that is not filled yet: rules do not look through it, as two graphs will run there."""

    declares: ClassVar[Declarations] = Declarations(never_more=True, keeps_keys=True)

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hand on what comes."""
        emit(batch)


@attrs.frozen(eq=False, repr=False)
class StepNode(Node):
    """A step within a partition.

    :ivar schema: the pyarrow schema of what it gives, where it is known. :ivar declares: None: what its task declares.
    """

    parent: Node
    make: Callable[[], Compute]
    narrow: bool = True
    schema: Any = None
    declares: Declarations | None = None

    @property
    def inputs(self) -> tuple[Node, ...]:
        """See :attr:`Node.inputs`."""
        return (self.parent,)

    @property
    def replicated(self) -> bool:
        """See :attr:`Node.replicated`."""
        return _is_replicated(self)

    def add_to(self, graph: Graph, name: str, before: Sequence[str], n_workers: int) -> None:
        """See :meth:`Node.add_to`."""
        declares = _declared(self.make) if self.declares is None else self.declares
        graph.add_compute(name, _PerTask(self.make), shows=self.shows, narrow=self.narrow, declares=declares)
        graph.connect(before, name, name=name)


def _is_replicated(node: Node) -> bool:
    """Of a node that has the partitions of the one before it; without a call for each of many."""
    while isinstance(node, (StepNode, StoredNode)):
        node = node.of if isinstance(node, StoredNode) else node.parent
    return node.replicated


@attrs.frozen(eq=False, repr=False)
class ExchangeNode(Node):
    """A step that moves records between partitions.

    :ivar parents: one for each input of the operator. :ivar operator, options: of the edge.
    :ivar partitions: of the result; as many as before when None.
    :ivar everywhere: one partition on each worker, all with the same records.
    """

    parents: tuple[Node, ...]
    operator: str
    options: Mapping[str, Any]
    make: Callable[[], Compute]
    partitions: int | None = None
    narrow: bool = True
    everywhere: bool = False

    @property
    def inputs(self) -> tuple[Node, ...]:
        """See :attr:`Node.inputs`."""
        return self.parents

    @property
    def replicated(self) -> bool:
        """See :attr:`Node.replicated`."""
        return self.everywhere

    def add_to(self, graph: Graph, name: str, before: Sequence[str], n_workers: int) -> None:
        """See :meth:`Node.add_to`."""
        partitions = n_workers if self.everywhere else self.partitions
        graph.add_compute(
            name,
            _PerTask(self.make),
            partitions,
            shows=self.shows,
            narrow=self.narrow,
            declares=_declared(self.make),
        )
        graph.connect(before, name, self.operator, name=name, **self.options)
        if self.everywhere:
            graph.place(name, range(n_workers))


@attrs.frozen(eq=False, repr=False)
class Way(Value):
    """One of several edges into a step.

    :ivar label: by which the step tells it from the others. :ivar node: where it begins.
    """

    label: str
    node: Node
    operator: str = "net.direct"
    options: Mapping[str, Any] = attrs.field(factory=dict)


class Met(Compute):
    """Base of tasks with several edges into them. :ivar labels: label by name of the edge."""

    labels: Mapping[str, str]


@attrs.frozen(eq=False, repr=False)
class MeetingNode(Node):
    """A step with several edges into it, each with its own operator.

    It has as many partitions as the node that comes by ``net.direct``.
    """

    ways: tuple[Way, ...]
    make: Callable[[], Met]

    @property
    def inputs(self) -> tuple[Node, ...]:
        """See :attr:`Node.inputs`."""
        return tuple(way.node for way in self.ways)

    def add_to(self, graph: Graph, name: str, before: Sequence[str], n_workers: int) -> None:
        """See :meth:`Node.add_to`."""
        labels = {f"{name}: {way.label}": way.label for way in self.ways}
        graph.add_compute(name, _PerMeeting(self.make, labels), shows=self.shows, narrow=False)
        for way, source in zip(self.ways, before, strict=True):
            graph.connect(source, name, way.operator, name=f"{name}: {way.label}", **way.options)


def _declared(make: Callable[[], Compute]) -> Declarations:
    """What the task declares that ``make`` gives, by its attribute ``declares``; nothing when it has none.

    A function that asks for its context may look at the number of its partition.
    """
    task = make()
    declares: Declarations = getattr(task, "declares", NOTHING)
    function = getattr(task, "function", None)
    return attrs.evolve(declares, indifferent=False) if function and wants_context(function) else declares


@attrs.frozen(eq=False, repr=False)
class _PerMeeting(Value):
    """``make(index)`` of a task that is told how its edges are called."""

    make: Callable[[], Met]
    labels: Mapping[str, str] = attrs.field(repr=False)

    def __call__(self, index: int) -> Compute:
        task = self.make()
        task.labels = self.labels
        return task


@attrs.frozen(eq=False, repr=False)
class _PerTask(Value):
    """``make(index)`` from a function without arguments."""

    make: Callable[[], Compute]

    def __call__(self, index: int) -> Compute:
        return self.make()


@attrs.frozen(eq=False, repr=False)
class _PerSink(Value):
    """``make(index)`` of a sink: from a function without arguments, or one that takes the index."""

    make: Callable[..., Sink]
    indexed: bool = False

    def __call__(self, index: int) -> Sink:
        return self.make(index) if self.indexed else self.make()


@attrs.frozen(eq=False, repr=False)
class End(Value):
    """The end of a graph: what an action adds behind the last step.

    :ivar operator, options: of the edge into it. :ivar everywhere: one task on each worker; else one per partition.
    :ivar two_phase: whether the sink writes outside the job; None: as :meth:`Graph.add_sink` finds out.
    :ivar indexed: ``make`` takes the index of the task. :ivar narrow: it may run as one task with the step before it,
        and does the same however the records are spread over its tasks. :ivar declares: of the sink.
    """

    make: Callable[..., Sink]
    shows: str
    operator: str = "net.direct"
    options: Mapping[str, Any] = attrs.field(factory=dict)
    everywhere: bool = False
    two_phase: bool | None = False
    indexed: bool = False
    narrow: bool = False
    declares: Declarations = NOTHING


@attrs.frozen(eq=False, repr=False)
class Leaf(Value):
    """A node and the end behind it. :ivar title: the name of the sink."""

    node: Node
    title: str
    end: End


def compile_action(
    leaves: Sequence[Leaf],
    name: str,
    n_workers: int,
    without_rules: Iterable[str] = (),
    scheduler: TaskScheduler | None = None,
    *,
    through: bool = False,
) -> tuple[Graph, list[str]]:
    """The graph of one or several ends, and the names of their sinks. ``through`` as in :func:`add_steps`."""
    graph = Graph(name, without_rules=without_rules, scheduler=scheduler)
    names: dict[int, str] = {}
    sinks = []
    for leaf in leaves:
        end = leaf.end
        before = add_steps(graph, leaf.node, n_workers, names, through=through)
        sink = free_name(graph, leaf.title)
        graph.add_sink(
            sink,
            _PerSink(end.make, end.indexed),
            n_workers if end.everywhere else None,
            shows=end.shows,
            two_phase=end.two_phase,
            narrow=end.narrow,
            declares=end.declares,
        )
        if end.everywhere:
            graph.place(sink, range(n_workers))
        graph.connect(before, sink, end.operator, name=sink, **end.options)
        sinks.append(sink)
    return graph, sinks


def add_steps(
    graph: Graph, node: Node, n_workers: int, names: dict[int, str] | None = None, *, through: bool = False
) -> str:
    """Add a node and all that it follows; the name of its vertex. A node that several follow is there once.

    :param names: of the vertices of nodes (by ``id``) that were added before; those added now are put in.
    :param through: what fills a stored set stands for one that is not filled yet. Such a graph is looked at, not run.
    """
    names = {} if names is None else names
    for step in in_order(node, through=through):
        if id(step) in names:
            continue
        name = names[id(step)] = free_name(graph, step.title)
        if through and is_unfilled(step):
            graph.add_compute(name, _PerTask(Kept), shows="kept when it is first needed", declares=Kept.declares)
            graph.connect(names[id(step.of)], name, name=name)
            continue
        step.add_to(graph, name, [names[id(parent)] for parent in step.inputs], n_workers)
        for label, given in step.given.items():
            if not (through and is_unfilled(given)):
                graph.give(name, label, given.stored, whole=given.replicated)
    return names[id(node)]


def is_unfilled(node: Node) -> TypeGuard[StoredNode]:
    """Whether it is a stored set without its records yet."""
    return isinstance(node, StoredNode) and not node.stored.filled


def in_order(node: Node, *, through: bool = False) -> list[Node]:
    """A node and all that it follows, those first that others follow; each once. ``through`` as in
    :func:`add_steps`.
    """
    ordered: dict[int, Node] = {}
    waiting: list[tuple[Node, bool]] = [(node, False)]
    while waiting:
        at, entered = waiting.pop()
        if id(at) in ordered:
            continue
        if entered:
            ordered[id(at)] = at
        else:
            waiting.append((at, True))
            inputs = (at.of,) if through and is_unfilled(at) else at.inputs
            waiting.extend((parent, False) for parent in reversed(inputs))
    return list(ordered.values())


_numbers: weakref.WeakKeyDictionary[Graph, dict[str, int]] = weakref.WeakKeyDictionary()
"""Of each graph: the number up to which a title is taken, so that many steps of one line are named fast."""


def free_name(graph: Graph, title: str) -> str:
    """``title``, with a number behind it when a vertex of that name exists."""
    if title not in graph.vertices:
        return title
    numbers = _numbers.setdefault(graph, {})
    number = numbers.get(title, 2)
    while f"{title} #{number}" in graph.vertices:
        number += 1
    numbers[title] = number
    return f"{title} #{number}"


_SAME_COLUMNS = {
    "filter",
    "where",
    "sample",
    "direct",
    "pipe",
    "partition",
    "cached",
    "union",
    "sort",
    "distinct",
    "limit",
}


def schema_behind(node: Node, *, sure: bool = False) -> Any:
    """The schema that records of a node have although there are none; None when it is not known.

    :param sure: only one that all records have at any time: not that of a stored set, which may have others later, nor
        of the first of several inputs.
    """
    while getattr(node, "schema", None) is None:
        if isinstance(node, StoredNode):
            if sure:
                return None
            if node.stored.schema is not None:
                return node.stored.schema
        before = (node.of,) if isinstance(node, StoredNode) else node.inputs
        if node.step not in _SAME_COLUMNS or not before or (sure and len(before) > 1):
            return None
        node = before[0]
    return node.schema  # type: ignore[attr-defined]
