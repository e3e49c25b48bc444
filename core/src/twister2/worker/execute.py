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
from twister2.graph.compile import Compiled, compile_graph
from twister2.graph.returned import returned
from twister2.spec.errors import Twister2Error, UserCodeError, from_dict
from twister2.spec.executor import Execution
from twister2.spec.tracebacks import user_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.graph import Outputs
    from twister2.spec.environment import WorkerController
    from twister2.spec.network import Network

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
class _Prepared:
    """An execution, valid as long as graph and version are the same."""

    graph: weakref.ref[Graph]
    version: int
    compiled: Compiled
    execution: Execution


class GraphRunner:
    """Runs graphs on one worker; made at the first graph of an attempt."""

    def __init__(self, env: RunnerEnvironment) -> None:
        self._env = env
        self._catalog = Catalog(lambda name: env.backend("ops", name))
        self._planned: weakref.WeakKeyDictionary[Graph, tuple[int, Mapping[str, Any]]] = weakref.WeakKeyDictionary()
        self._prepared: OrderedDict[int, _Prepared] = OrderedDict()
        self.running = ""
        """What is run now, for progress displays (``"run words"``); empty between runs."""
        env.on_close(self.close)

    def run(self, graph: Graph) -> Outputs:
        """Execute a graph; see :meth:`twister2.spec.environment.WorkerEnvironment.run`."""
        prepared = self._prepare(graph)
        execution, plan = prepared.execution, prepared.compiled.plan
        self.running = f"run {plan.name}".strip()
        try:
            with self._env.network.step("run", f"{plan.name} {plan.fingerprint}".strip()) as step:
                execution.start(step)
                while not execution.step(0.2):
                    pass
            # The commit of sinks has steps of its own.
            return execution.run()
        except BaseException:
            self._forget(id(graph))
            raise
        finally:
            self.running = ""

    def close(self) -> None:
        """Close all prepared executions."""
        for key in list(self._prepared):
            self._forget(key)

    # -- preparing -----------------------------------------------------------------------------------------------------

    def _prepare(self, graph: Graph) -> _Prepared:
        self._forget_dead()
        key = id(graph)
        found = self._prepared.get(key)
        if found is not None and found.version == graph.version:
            self._prepared.move_to_end(key)
            return found
        self._forget(key)
        compiled = compile_graph(
            graph,
            workers=self._env.controller.workers(),
            scheduler=self._env.backend("sched"),
            catalog=self._catalog,
            planned=self._plan_sources(graph),
        )
        executor = self._env.backend("exec")
        execution = returned(executor, "exec", "prepare", Execution, executor.prepare(compiled.plan))
        self._prepared[key] = _Prepared(weakref.ref(graph), graph.version, compiled, execution)
        while len(self._prepared) > _PREPARED:
            self._forget(next(iter(self._prepared)))
        return self._prepared[key]

    def _forget(self, key: int) -> None:
        prepared = self._prepared.pop(key, None)
        if prepared is not None:
            prepared.execution.close()

    def _forget_dead(self) -> None:
        for key, prepared in list(self._prepared.items()):
            if prepared.graph() is None:
                self._forget(key)

    def _plan_sources(self, graph: Graph) -> Mapping[str, Any]:
        """What the planners of the graph's sources gave, from one worker to all.

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
                    mine = (None, _call_planners(graph))
                except Twister2Error as error:
                    mine, cause = (error.to_dict(), {}), error
            what = f"plan of {graph.name} {graph.fingerprint()}"
            error_data, planned = self._env.network.broadcast_object(mine, PLANNING_WORKER, what=what)
            if cause is not None:
                raise cause
            if error_data is not None:
                raise from_dict(error_data)
        self._planned[graph] = (graph.version, planned)
        return planned


def _call_planners(graph: Graph) -> Mapping[str, Any]:
    planned = {}
    for vertex in graph.vertices.values():
        if vertex.planner is None:
            continue
        where = f"graph {graph.name!r}, source {vertex.name!r}"
        try:
            planned[vertex.name] = vertex.planner()
        except Twister2Error as error:
            error.where = error.where or where
            raise
        except Exception as error:
            raise UserCodeError(
                f"the planner of {vertex.name!r} failed: {type(error).__name__}: {error}",
                why="it raised while the graph was planned",
                remedy="see the traceback",
                where=where,
                details={"vertex": vertex.name, "traceback": user_traceback(error)},
            ) from error
    return planned
