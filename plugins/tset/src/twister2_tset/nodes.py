"""The lazy DAG behind a set, and its compilation to a task graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from twister2.graph import Graph
from twister2.spec.tasks import Compute, Sink, Source


@attrs.frozen(eq=False)
class Node:
    """One step of a set.

    :ivar step: name of the operation. :ivar line: ``file.py:12``, where the user wrote it.
    :ivar shows: what ``explain()`` prints for it.
    """

    step: str
    line: str
    shows: str

    @property
    def title(self) -> str:
        """Name for graphs and errors: ``"map (count.py:7)"``."""
        return f"{self.step} ({self.line})"

    @property
    def input(self) -> Node | None:
        """The node it follows; None for a source."""
        return None

    def add_to(self, graph: Graph, name: str, before: str) -> None:
        """Add the vertex, and the edge from ``before``."""
        raise TypeError(f"{type(self).__name__} is no step")


@attrs.frozen(eq=False)
class SourceNode(Node):
    """Where records come from; ``make`` as in ``Graph.add_source``.

    :ivar workers: worker id of each partition when they lie on workers already.
    """

    make: Callable[..., Source]
    partitions: int
    planner: Callable[[], Any] | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    workers: tuple[int, ...] | None = None

    def add_to(self, graph: Graph, name: str, before: str) -> None:
        """See :meth:`Node.add_to`."""
        graph.add_source(name, self.make, self.partitions, planner=self.planner, options=self.options, shows=self.shows)
        if self.workers is not None:
            graph.place(name, self.workers)


@attrs.frozen(eq=False)
class StepNode(Node):
    """A step within a partition."""

    parent: Node
    make: Callable[[], Compute]
    narrow: bool = True

    @property
    def input(self) -> Node:
        """See :attr:`Node.input`."""
        return self.parent

    def add_to(self, graph: Graph, name: str, before: str) -> None:
        """See :meth:`Node.add_to`."""
        graph.add_compute(name, _PerTask(self.make), shows=self.shows, narrow=self.narrow)
        graph.connect(before, name, name=name)


@attrs.frozen(eq=False)
class ExchangeNode(Node):
    """A step that moves records between partitions.

    :ivar operator, options: of the edge. :ivar partitions: of the result; as many as before when None.
    """

    parent: Node
    operator: str
    options: Mapping[str, Any]
    make: Callable[[], Compute]
    partitions: int | None = None
    narrow: bool = True

    @property
    def input(self) -> Node:
        """See :attr:`Node.input`."""
        return self.parent

    def add_to(self, graph: Graph, name: str, before: str) -> None:
        """See :meth:`Node.add_to`."""
        graph.add_compute(name, _PerTask(self.make), self.partitions, shows=self.shows, narrow=self.narrow)
        graph.connect(before, name, self.operator, name=name, **self.options)


@attrs.frozen
class _PerTask:
    """``make(index)`` from a function without arguments."""

    make: Callable[[], Compute]

    def __call__(self, index: int) -> Compute:
        return self.make()


@attrs.frozen
class _PerSink:
    """``make(index)`` of a sink from a function without arguments."""

    make: Callable[[], Sink]

    def __call__(self, index: int) -> Sink:
        return self.make()


@attrs.frozen
class End:
    """The end of a graph: what an action adds behind the last step.

    :ivar operator, options: of the edge into it. :ivar everywhere: one task on each worker; else one per partition.
    :ivar two_phase: whether the sink writes outside the job.
    """

    make: Callable[[], Sink]
    shows: str
    operator: str = "net.direct"
    options: Mapping[str, Any] = attrs.field(factory=dict)
    everywhere: bool = False
    two_phase: bool = False


def compile_action(
    node: Node, title: str, end: End, n_workers: int, without_rules: Iterable[str] = ()
) -> tuple[Graph, str]:
    """The graph of one action, and the name of its sink."""
    graph = Graph(title, without_rules=without_rules)
    chain: list[Node] = []
    at: Node | None = node
    while at is not None:
        chain.append(at)
        at = at.input
    before = ""
    for step in reversed(chain):
        name = free_name(graph, step.title)
        step.add_to(graph, name, before)
        before = name
    sink = free_name(graph, title)
    graph.add_sink(
        sink, _PerSink(end.make), n_workers if end.everywhere else None, shows=end.shows, two_phase=end.two_phase
    )
    if end.everywhere:
        graph.place(sink, range(n_workers))
    graph.connect(before, sink, end.operator, name=sink, **end.options)
    return graph, sink


def free_name(graph: Graph, title: str) -> str:
    """``title``, with a number behind it when a vertex of that name exists."""
    name, number = title, 2
    while name in graph.vertices:
        name, number = f"{title} #{number}", number + 1
    return name
