"""Value types of a plan: what task schedulers read and write and executors carry out.

A *task graph* (``twister2.graph``) has vertices and edges; after rewriting, a *logical plan* lists every task; the
scheduler adds a placement; the *plan* is the same on every worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerInfo
    from twister2.spec.stored import Partition
    from twister2.spec.tasks import Task


@attrs.frozen(eq=False, repr=False)
class VertexPlan(Value):
    """One vertex with all its tasks.

    :ivar make: ``make(index) -> Task``, called on the worker that holds the task.
    :ivar kind: source, compute or sink.
    :ivar parallelism: number of tasks. :ivar cpus, memory_mb, gpus: per task, for schedulers that fit.
    :ivar hosts: preferred hosts per task index (from source splits); may be empty.
    :ivar options: plain data for the task's context and for constraints.
    :ivar shows: what ``explain()`` prints for it (the fused steps).
    :ivar two_phase: a sink whose tasks take part in prepare and commit at the end of a run.
    :ivar inputs: named inputs: a function of the task's index for each.
    :ivar asks: which of ``cpus``, ``memory_mb``, ``gpus`` the program asked for; the others are defaults, no wishes.
    :ivar parts: names of the graph's vertices that it stands for, several once they are fused; empty: itself.
    """

    name: str
    kind: Literal["source", "compute", "sink"]
    parallelism: int
    make: Callable[[int], Task] = attrs.field(repr=False, eq=False)
    cpus: float = 1.0
    memory_mb: int = 0
    hosts: Mapping[int, tuple[str, ...]] = attrs.field(factory=dict)
    options: Mapping[str, Any] = attrs.field(factory=dict)
    shows: str = ""
    two_phase: bool = True
    inputs: Mapping[str, Callable[[int], Partition]] = attrs.field(factory=dict)
    asks: frozenset[str] = frozenset()
    gpus: int = 0
    parts: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names that it goes by: its own, and those of the vertices it stands for."""
        return tuple(dict.fromkeys((self.name, *self.parts)))


@attrs.frozen(eq=False, repr=False)
class EdgePlan(Value):
    """One edge.

    :ivar number: index of the edge in the plan, equal on all workers.
    :ivar name: how tasks call it. :ivar target: name of a vertex.
    :ivar sources: names of vertices: one for each input of the operator, in order; one may stand there twice.
    :ivar operator: ``"<ops plugin>.<operator>"``, e.g. ``"net.keyed_reduce"``.
    :ivar options: the operator's options (functions included).
    :ivar shape: what the operator declares (:attr:`~twister2.spec.ops.OperatorInfo.shape`); empty when not known.
    :ivar arrives_as: how the tasks of the target call it, where a step that handed on what came has been left out;
        empty: by its name.
    """

    number: int
    name: str
    sources: tuple[str, ...]
    target: str
    operator: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    shape: str = ""
    arrives_as: str = ""


@attrs.frozen(eq=False, repr=False)
class Placement(Value):
    """Where each task runs: ``workers[vertex][task index]`` is a worker id."""

    workers: Mapping[str, tuple[int, ...]]


@attrs.frozen(eq=False, repr=False)
class Plan(Value):
    """Everything an executor needs. The same on every worker.

    :ivar vertices: in topological order. :ivar edges: by number.
    :ivar fingerprint: hash of graph and placement, for the step.
    """

    name: str
    mode: Literal["batch", "stream"]
    vertices: tuple[VertexPlan, ...]
    edges: tuple[EdgePlan, ...]
    placement: Placement
    workers: tuple[WorkerInfo, ...]
    fingerprint: str
    _by_name: Mapping[str, VertexPlan] = attrs.field(init=False, repr=False, eq=False)

    @_by_name.default
    def _index(self) -> Mapping[str, VertexPlan]:
        return {vertex.name: vertex for vertex in self.vertices}

    def vertex(self, name: str) -> VertexPlan:
        """The vertex of that name; KeyError when there is none."""
        return self._by_name[name]

    def tasks_on(self, worker_id: int) -> list[tuple[VertexPlan, int]]:
        """The tasks of one worker as (vertex, index), in topological order."""
        return [
            (vertex, index)
            for vertex in self.vertices
            for index, worker in enumerate(self.placement.workers[vertex.name])
            if worker == worker_id
        ]

    def inputs(self, vertex: str) -> list[EdgePlan]:
        return [edge for edge in self.edges if edge.target == vertex]

    def outputs(self, vertex: str) -> list[EdgePlan]:
        return [edge for edge in self.edges if vertex in edge.sources]
