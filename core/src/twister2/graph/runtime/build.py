"""Making what one worker needs for a run: its ends of the operators, and a runner for each of its tasks."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from twister2.graph.fused_ends import FusedSink, FusedSource
from twister2.graph.runtime.consumers import ComputeRunner, Input, SinkRunner
from twister2.graph.runtime.ends import FusedSinkRunner, FusedSourceRunner
from twister2.graph.runtime.failure import TaskPlace, task_failure
from twister2.graph.runtime.runner import Output, TaskRunner
from twister2.graph.runtime.sources import SourceRunner
from twister2.spec.errors import GraphError
from twister2.spec.ops import Operator, OperatorContext
from twister2.spec.plan import EdgePlan, VertexPlan
from twister2.spec.tasks import Compute, Sink, Source, Task, TaskContext
from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from twister2.graph.runtime.pool import Pool
    from twister2.spec.executor import ExecutorContext
    from twister2.spec.network import Step
    from twister2.spec.plan import Plan

_BASES: Mapping[str, type[Task]] = {"source": Source, "compute": Compute, "sink": Sink}


def make_operators(plan: Plan, context: ExecutorContext, step: Step) -> dict[int, Operator]:
    """This worker's end of every edge, by edge number; also of edges without a local task: operators are collective."""
    operators: dict[int, Operator] = {}
    try:
        for edge in plan.edges:
            plugin, _, name = edge.operator.partition(".")
            operators[edge.number] = context.operators(plugin).create(
                OperatorContext(
                    name=name,
                    edge=edge.number,
                    label=edge.name,
                    sources=tuple(worker for source in edge.sources for worker in plan.placement.workers[source]),
                    targets=plan.placement.workers[edge.target],
                    options=edge.options,
                    mode=plan.mode,
                    step=step,
                    network=context.network,
                    memory=context.memory,
                    inputs=_inputs(plan, edge),
                )
            )
    except BaseException:
        for operator in operators.values():
            operator.close()
        raise
    return operators


@attrs.frozen(eq=False, repr=False)
class Place(Value):
    """A task of this worker in all runs of a plan.

    :ivar outputs: for each way out the edge, and the number of the task among its sources. :ivar inputs: the edges in.
    """

    vertex: VertexPlan
    index: int
    outputs: tuple[tuple[EdgePlan, int], ...]
    inputs: tuple[EdgePlan, ...]


def places_on(plan: Plan, worker_id: int) -> list[Place]:
    """The tasks of a worker, in topological order."""
    into: dict[str, list[EdgePlan]] = {}
    out_of: dict[str, list[tuple[EdgePlan, int]]] = {}
    for edge in plan.edges:
        into.setdefault(edge.target, []).append(edge)
        for source in dict.fromkeys(edge.sources):
            out_of.setdefault(source, []).extend((edge, first) for first in _firsts(plan, edge, source))
    return [
        Place(
            vertex,
            index,
            tuple((edge, first + index) for edge, first in out_of.get(vertex.name, ())),
            tuple(into.get(vertex.name, ())),
        )
        for vertex, index in plan.tasks_on(worker_id)
    ]


def make_runners(
    places: Iterable[Place],
    context: ExecutorContext,
    operators: Mapping[int, Operator],
    step: Step,
    pool: Pool | None,
    before: Sequence[TaskRunner] = (),
) -> list[TaskRunner]:
    """A runner for each place; their tasks are made, not opened.

    :param before: the runners of the run before with the same operators, which serve again where they can.
    :raises UserCodeError: a factory raised. :raises GraphError: it gave something that is no task of that kind.
    """
    runners = []
    for number, one in enumerate(places):
        vertex, index = one.vertex, one.index
        known = before[number] if before else None
        if known is None:
            place = TaskPlace(vertex.name, index, vertex.parallelism, context.worker_id, step.number)
        else:
            place = known.place
            place.step = step.number
        task = _make_task(vertex, index, place)
        elsewhere = pool if pool is not None and is_offloaded(task, vertex) else None
        if known is not None and known.pool is elsewhere and known.made_for is type(task):
            known.renew(task)
            runners.append(known)
            continue
        outputs = [Output(edge.name, operators[edge.number], source) for edge, source in one.outputs]
        inputs = [Input(edge.arrives_as or edge.name, operators[edge.number], index) for edge in one.inputs]
        runners.append(_runner(task, place, inputs, outputs, elsewhere))
    return runners


def _inputs(plan: Plan, edge: EdgePlan) -> tuple[int, ...]:
    """How many of the operator's sources are those of each input; empty where there is one input only."""
    return tuple(len(plan.placement.workers[source]) for source in edge.sources) if len(edge.sources) > 1 else ()


def _firsts(plan: Plan, edge: EdgePlan, vertex: str) -> list[int]:
    """The number among the operator's sources of the vertex's first task; one for each input that it is."""
    firsts, number = [], 0
    for source in edge.sources:
        if source == vertex:
            firsts.append(number)
        number += len(plan.placement.workers[source])
    return firsts


def _make_task(vertex: VertexPlan, index: int, place: TaskPlace) -> Task:
    try:
        task = vertex.make(index)
    except Exception as error:
        failure = task_failure(error, place, "factory")
        if failure is error:
            raise
        raise failure from error
    base = _BASES[vertex.kind]
    if not isinstance(task, base):
        raise GraphError(
            f"the factory of {vertex.kind} {vertex.name!r} gave {type(task).__name__}",
            why=f"a {vertex.kind} vertex is made of twister2.spec.tasks.{base.__name__} objects",
            remedy=f"let make(index) return a {base.__name__}",
        )
    return task


def _runner(task: Task, place: TaskPlace, inputs: list[Input], outputs: list[Output], pool: Pool | None) -> TaskRunner:
    if isinstance(task, FusedSource):
        return FusedSourceRunner(task, place, outputs, pool)
    if isinstance(task, Source):
        return SourceRunner(task, place, outputs, pool)
    if isinstance(task, FusedSink):
        return FusedSinkRunner(task, place, inputs, outputs, pool)
    if isinstance(task, Compute):
        return ComputeRunner(task, place, inputs, outputs, pool)
    assert isinstance(task, Sink)
    return SinkRunner(task, place, inputs, outputs, pool)


def is_offloaded(task: Task, vertex: VertexPlan) -> bool:
    """Whether a task's functions belong into a pool of threads: they block, or they release the GIL.

    Declared by the task's attribute ``blocking`` or ``releases_gil``, or by the vertex's option of that name.
    """
    options = vertex.options
    return bool(
        getattr(task, "blocking", False)
        or getattr(task, "releases_gil", False)
        or (options and (options.get("blocking") or options.get("releases_gil")))
    )


def workers_by_name(plan: Plan) -> Mapping[str, tuple[int, ...]]:
    """The workers of the tasks of every vertex of the graph, also of those that were joined with others."""
    return MappingProxyType({name: plan.placement.workers[one.name] for one in plan.vertices for name in one.names})


def task_context(
    runner: TaskRunner,
    vertex: VertexPlan,
    workers: Mapping[str, tuple[int, ...]],
    context: ExecutorContext,
    step: Step,
    checkpoint: int,
) -> TaskContext:
    """Where a task finds itself. :param workers: of :func:`workers_by_name`."""
    values: dict[str, Any] = {
        "vertex": vertex.name,
        "index": runner.place.index,
        "parallelism": vertex.parallelism,
        "worker_id": context.worker_id,
        "n_workers": context.n_workers,
        "attempt": context.attempt,
        "job_id": context.job_id,
        "step": step.number,
        "options": vertex.options,
        "memory": context.memory,
        "log": context.log,
        "backend": context.backend,
        "checkpoint": checkpoint,
        "inputs": {name: given(runner.place.index) for name, given in vertex.inputs.items()},
        "workers": workers,
        "config": context.config,
    }
    return TaskContext(**values)
