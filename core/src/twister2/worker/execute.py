"""``env.run(graph)``: check, plan outside facts on one worker, rewrite, place, prepare, run.

A graph object that is run again is neither planned nor prepared again: its operators are reset. What planners gave is
kept as long as the graph lives, the same on every worker, because getting it is a collective action; prepared
executions are kept for the few graphs used last.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from twister2.graph import Graph
from twister2.graph.catalog import Catalog
from twister2.graph.compile import Compiled, compile_graph, rule_options
from twister2.graph.explain import explain_plan
from twister2.graph.planners import ask_planners
from twister2.graph.returned import asked
from twister2.spec.errors import Twister2Error, UsageError, from_dict
from twister2.spec.executor import Execution
from twister2.spec.running import Prepared, Running
from twister2.worker.distances import Distances
from twister2.worker.figures import Figures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.graph import Outputs, Stored
    from twister2.spec.environment import WorkerController
    from twister2.spec.network import Network, Step

PLANNING_WORKER = 0
"""The worker that runs planners. Task schedulers need what they give, so that it cannot depend on the placement."""

_PREPARED = 8
"""Graphs whose prepared execution is kept."""


class RunnerEnvironment(Protocol):
    """What running graphs needs of a worker's environment."""

    @property
    def worker_id(self) -> int:
        """Id of this worker."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The job's configuration."""

    @property
    def network(self) -> Network:
        """The worker's network."""

    @property
    def controller(self) -> WorkerController:
        """Who is there."""

    def backend(self, kind: str, name: str | None = None) -> Any:
        """The backend of a selected plugin."""

    def on_close(self, action: Callable[[], None]) -> None:
        """Run ``action`` when the attempt ends."""


@attrs.define(eq=False)
class _Plan:
    """An execution, valid as long as graph and version are the same.

    :ivar pins: how many have prepared it and not closed it. :ivar running: a run is under way.
    :ivar figures: what its runs did, also those of plans of the same graph before it.
    :ivar shape: of its steps. :ivar doing: for progress displays. :ivar mine: by sink that fills a stored set, the
        indices of its tasks on this worker.
    """

    graph: weakref.ref[Graph]
    version: tuple[int, ...]
    compiled: Compiled
    execution: Execution
    pins: int = 0
    running: bool = False
    figures: Figures = attrs.field(factory=Figures)
    shape: str = attrs.field(init=False)
    doing: str = attrs.field(init=False)
    mine: dict[str, list[int]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        facts = self.compiled.plan
        self.shape = f"{facts.name} {facts.fingerprint}".strip()
        self.doing = f"run {facts.name}".strip()


class GraphRunner:
    """Runs graphs on one worker; made at the first graph of an attempt."""

    def __init__(self, env: RunnerEnvironment) -> None:
        self._env = env
        self._catalog = Catalog(lambda name: env.backend("ops", name))
        self._planned: weakref.WeakKeyDictionary[Graph, tuple[tuple[int, ...], Mapping[str, Any]]] = (
            weakref.WeakKeyDictionary()
        )
        self._sizes: weakref.WeakKeyDictionary[Graph, Mapping[str, int]] = weakref.WeakKeyDictionary()
        self._plans: OrderedDict[int, _Plan] = OrderedDict()
        self._stored: weakref.WeakSet[Stored] = weakref.WeakSet()
        self._distances = Distances(env)
        self._died = False
        """Whether a graph may have gone whose plan is still kept."""
        self._gone = Figures()
        """What graphs did whose plans are forgotten."""
        self.running = ""
        """What is run now, for progress displays (``"run words"``); empty between runs."""
        env.on_close(self.close)

    def run(self, graph: Graph) -> Outputs:
        """Execute a graph; see :meth:`twister2.spec.environment.WorkerEnvironment.run`."""
        plan = self._begin(graph)
        execution = plan.execution
        try:
            with self._step(plan) as step:
                execution.start(step)
                while not execution.step(0.2):
                    pass
            return self.finish(graph, plan)
        except BaseException:
            self.failed(graph, plan)
            raise
        finally:
            self.running = ""

    def start(self, graph: Graph) -> GraphRun:
        """Begin to execute a graph; see :meth:`twister2.spec.environment.WorkerEnvironment.start`."""
        plan = self._begin(graph)
        try:
            step = self._step(plan)
            try:
                plan.execution.start(step)
            except BaseException as error:
                step.__exit__(type(error), error, error.__traceback__)
                raise
            return GraphRun(self, graph, plan, step)
        except BaseException:
            self.failed(graph, plan)
            raise
        finally:
            self.running = ""

    def prepare(self, graph: Graph) -> PreparedGraph:
        """See :meth:`twister2.spec.environment.WorkerEnvironment.prepare`."""
        return PreparedGraph(self, graph)

    def close(self) -> None:
        """Close all prepared executions and all stored sets."""
        for key in list(self._plans):
            self._forget(key)
        for stored in list(self._stored):
            stored.close()

    def _begin(self, graph: Graph) -> _Plan:
        plan = self.plan(graph)
        if plan.running:
            raise UsageError(
                f"graph {graph.name!r} runs already",
                why="env.start began a run of it that was not waited for",
                remedy="wait for that run first, or build a second graph",
            )
        plan.running = True
        self.running = plan.doing
        return plan

    def _step(self, plan: _Plan) -> Step:
        return self._env.network.step("run", plan.shape)

    def finish(self, graph: Graph, plan: _Plan) -> Outputs:
        """The end of a run: sinks commit, in steps of their own, and stored sets are filled."""
        outputs = dict(plan.execution.run())
        plan.running = False
        plan.figures.add(plan.compiled.plan.name, plan.execution.counters())
        placement = plan.compiled.plan.placement.workers
        for sink, stored in graph.kept.items():
            workers = placement[sink]
            mine = plan.mine.get(sink)
            if mine is None:
                me = self._env.worker_id
                mine = plan.mine[sink] = [index for index, worker in enumerate(workers) if worker == me]
            partitions = dict(zip(mine, outputs.pop(sink), strict=True))
            stored.fill(workers, partitions, plan.compiled.by_hash.get(sink), plan.compiled.schemas.get(sink))
            self._stored.add(stored)
        return outputs

    def failed(self, graph: Graph, plan: _Plan) -> None:
        """A run did not come to its end: what was prepared for it is of no use any more."""
        plan.running = False
        self._forget(id(graph))

    def explain(self, graph: Graph) -> str:
        """The plan of a graph, as text."""
        return explain_plan(self.plan(graph).compiled, self._catalog)

    @property
    def network(self) -> Network:
        """The worker's network."""
        return self._env.network

    @property
    def figures(self) -> Figures:
        """What all graphs did on this worker in this attempt."""
        every = Figures()
        for figures in (self._gone, *(plan.figures for plan in self._plans.values())):
            every.merge(figures)
        return every

    # -- preparing -----------------------------------------------------------------------------------------------------

    def plan(self, graph: Graph) -> _Plan:
        """What is prepared for a graph; prepares it when it is not, or when it has changed."""
        if self._died:
            self._forget_dead()
        key = id(graph)
        found = self._plans.get(key)
        if found is not None and (found.running or found.version == graph.version):
            self._plans.move_to_end(key)
            return found
        pins, figures = (0, Figures()) if found is None else (found.pins, found.figures)
        if found is not None:
            found.figures = Figures()
        self._forget(key)
        compiled = compile_graph(
            graph,
            workers=self._env.controller.workers(),
            scheduler=graph.scheduler or self._env.backend("sched"),
            catalog=self._catalog,
            planned=self._plan_sources(graph),
            measure=self._distances,
            **rule_options(self._env.config),
        )
        executor = self._env.backend("exec")
        execution = asked(executor, "exec", "prepare", Execution, lambda: executor.prepare(compiled.plan))
        plan = self._plans[key] = _Plan(
            weakref.ref(graph, self._note_death), graph.version, compiled, execution, pins, figures=figures
        )
        idle = [other for other, one in self._plans.items() if not one.pins and not one.running and one is not plan]
        for other in idle[: max(0, len(idle) + 1 - _PREPARED)]:
            self._forget(other)
        return plan

    def unpin(self, graph: Graph) -> None:
        """One who prepared it has closed it."""
        plan = self._plans.get(id(graph))
        if plan is not None:
            plan.pins -= 1
            if not plan.pins and not plan.running:
                self._forget(id(graph))

    def _forget(self, key: int) -> None:
        plan = self._plans.pop(key, None)
        if plan is not None:
            self._gone.merge(plan.figures)
            plan.execution.close()

    def _note_death(self, _: weakref.ref[Graph]) -> None:
        self._died = True

    def _forget_dead(self) -> None:
        self._died = False
        for key, plan in list(self._plans.items()):
            if plan.graph() is not None:
                continue
            if plan.running:  # a run that was not waited for
                self._died = True
            else:
                self._forget(key)

    def _plan_sources(self, graph: Graph) -> Mapping[str, Any]:
        """What the planners of the graph's sources gave, from one worker to all, and sizes of stored sets.

        :raises Twister2Error: a planner failed; the same error on every worker.
        """
        kept = self._planned.get(graph)
        if kept is not None and kept[0] == graph.version:
            return kept[1]
        graph.validate(self._catalog)
        planned: Mapping[str, Any] = {}
        if any(vertex.planner is not None for vertex in graph.vertices.values()):
            mine: tuple[dict[str, Any] | None, Mapping[str, Any]] = (None, {})
            cause: Exception | None = None
            if self._env.worker_id == PLANNING_WORKER:
                try:
                    mine = (None, ask_planners(graph))
                except Twister2Error as error:
                    mine, cause = (error.to_dict(), {}), error
            what = f"plan of {graph.name} {graph.fingerprint()}"
            error_data, planned = self._env.network.broadcast_object(mine, PLANNING_WORKER, what=what)
            if cause is not None:
                raise cause
            if error_data is not None:
                raise from_dict(error_data)
        planned = {**planned, **self._stored_sizes(graph)}
        self._planned[graph] = (graph.version, planned)
        return planned

    def _stored_sizes(self, graph: Graph) -> Mapping[str, int]:
        """Bytes on all workers of the stored sets that a graph reads, when it has an operator for which that counts.

        Asked when it is first planned, and never again: sets may lie otherwise by the next run, and what plans it anew
        (``explain`` of a prepared graph) is not always called on all workers.
        """
        if graph in self._sizes:
            return self._sizes[graph]
        infos = [self._catalog.info(edge.operator) for edge in graph.edges]
        if not graph.stored or not any(info is not None and info.broadcasts for info in infos):
            return self._sizes.setdefault(graph, {})
        mine = {
            name: sum(partition.n_bytes for partition in stored.local().values())
            for name, stored in graph.stored.items()
        }
        parts = self._env.network.exchange_objects(mine, what=f"sizes of stored sets for {graph.name}".strip())
        sizes = {name: sum(part[name] for part in parts) for name in mine}
        for name, stored in graph.stored.items():
            stored.n_bytes = sizes[name]
        return self._sizes.setdefault(graph, sizes)


class GraphRun(Running):
    """A run that :meth:`GraphRunner.start` began."""

    def __init__(self, runner: GraphRunner, graph: Graph, plan: _Plan, step: Step) -> None:
        self._runner, self._graph, self._plan = runner, graph, plan
        self._outputs: Outputs | None = None
        self._inside = False
        self._request = runner.network.keep_open(step, self._advance, plan.doing, polled=True, lasting=False)

    def test(self) -> bool:
        return self._outputs is not None or self._request.test()

    def wait(self, deadline_s: float | None = None) -> Outputs:
        if self._outputs is None:
            self._request.wait(deadline_s)
            try:
                self._outputs = self._runner.finish(self._graph, self._plan)
            except BaseException:
                self._runner.failed(self._graph, self._plan)
                raise
        return self._outputs

    def drain(self) -> None:
        if self._outputs is None:
            self._plan.execution.drain()

    def _advance(self) -> bool:
        if self._inside:  # the execution lets the network progress, which comes here
            return False
        self._inside = True
        try:
            return self._plan.execution.step(0.0)
        except BaseException:
            self._runner.failed(self._graph, self._plan)
            raise
        finally:
            self._inside = False


class PreparedGraph(Prepared):
    """What :meth:`GraphRunner.prepare` gives."""

    def __init__(self, runner: GraphRunner, graph: Graph) -> None:
        self._runner, self._graph = runner, graph
        runner.plan(graph).pins += 1
        self._open = True

    def run(self) -> Outputs:
        self._check_open()
        return self._runner.run(self._graph)

    def start(self) -> Running:
        self._check_open()
        return self._runner.start(self._graph)

    def explain(self) -> str:
        self._check_open()
        return self._runner.explain(self._graph)

    def figures(self) -> Mapping[str, Mapping[str, float]]:
        self._check_open()
        return self._runner.plan(self._graph).figures.by_vertex()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._runner.unpin(self._graph)

    def _check_open(self) -> None:
        if not self._open:
            raise UsageError(
                f"the prepared graph {self._graph.name!r} is closed",
                why="close() was called, or its 'with' block has ended",
                remedy="prepare it again",
            )
