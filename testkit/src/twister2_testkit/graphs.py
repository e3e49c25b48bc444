"""Graphs on workers that are threads of the test: the kit's cluster with an executor and a task scheduler."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from twister2.graph.typed import RecordSink
from twister2.spec.environment import NodeFacts, WorkerInfo
from twister2.spec.executor import ExecutorContext
from twister2.worker.execute import GraphRunner
from twister2_testkit.fakes import LocalCluster, LocalEnv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.graph import Graph, Outputs
    from twister2.spec.running import Prepared, Running

ExecutorName: TypeAlias = Literal["inline", "threads"]
EXECUTORS: tuple[ExecutorName, ...] = ("inline", "threads")
_PLUGINS = {"inline": "InlinePlugin", "threads": "ThreadsPlugin"}


class KeepRecords(RecordSink[Any]):
    """A sink that keeps the records it gets, in the order in which they come."""

    two_phase = False

    def __init__(self, index: int = 0) -> None:
        self.seen: list[Any] = []

    def record(self, record: Any) -> None:
        """Keep it."""
        self.seen.append(record)

    def output(self) -> list[Any]:
        """All of them."""
        return self.seen


class GraphEnv:
    """A worker's environment that runs graphs, over the kit's ``LocalEnv``; what it lacks is that one's.

    :param executor: which of our executors; its distribution must be installed, as must ``twister2-sched-roundrobin``.
    """

    def __init__(self, local: LocalEnv, executor: ExecutorName = "inline") -> None:
        self._local, self._executor = local, executor
        self._exec: Any = None
        self.controller = _Controller(local.n_workers)
        self.runner = GraphRunner(self)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._local, name)

    def backend(self, kind: str, name: str | None = None) -> Any:
        """The backend of a plugin: the executor's, or what the kit's environment has."""
        if kind != "exec":
            return self._local.backend(kind, name or ("roundrobin" if kind == "sched" else None))
        if self._exec is None:
            plugin = getattr(
                importlib.import_module(f"twister2_exec_{self._executor}.plugin"), _PLUGINS[self._executor]
            )()
            context = ExecutorContext(
                worker_id=self._local.worker_id,
                n_workers=self._local.n_workers,
                attempt=1,
                job_id="test",
                threads=2,
                network=self._local.network,
                memory=self._local.memory,
                log=self._local.log,
                operators=lambda name: self.backend("ops", name),
                backend=self.backend,
                report=lambda counters: None,
                config=self._local.config,
            )
            self._exec = plugin.exec_create(config=plugin.config_class(), context=context)
            self._local.on_close(self._exec.close)
        return self._exec

    def run(self, graph: Graph) -> Outputs:
        """As ``env.run``."""
        return self.runner.run(graph)

    def start(self, graph: Graph) -> Running:
        """As ``env.start``."""
        return self.runner.start(graph)

    def prepare(self, graph: Graph) -> Prepared:
        """As ``env.prepare``."""
        return self.runner.prepare(graph)

    def figures(self) -> Mapping[str, Mapping[str, float]]:
        """As ``env.figures``."""
        return self.runner.figures.totals()


class _Controller:
    def __init__(self, n_workers: int) -> None:
        self._workers = [WorkerInfo(index, index, NodeFacts("here")) for index in range(n_workers)]

    def workers(self) -> list[WorkerInfo]:
        return self._workers


def run_workers(
    n: int,
    function: Callable[[Any], Any],
    *,
    executor: ExecutorName = "inline",
    deadline_s: float = 30.0,
    **options: Any,
) -> list[Any]:
    """``function(env)`` on ``n`` workers; the results by worker id. ``options`` are the cluster's."""
    cluster = LocalCluster(n, deadline_s=deadline_s, **options)
    return cluster.run(lambda local: function(GraphEnv(local, executor)))
