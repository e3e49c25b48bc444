"""Workers in one process for the tests of sets: the kit's cluster, with graphs."""

from __future__ import annotations

import importlib

import pytest

from twister2.spec.environment import NodeFacts, WorkerInfo
from twister2.spec.executor import ExecutorContext
from twister2.worker.execute import GraphRunner
from twister2_testkit.fakes import LocalCluster


class Controller:
    def __init__(self, n_workers):
        self._workers = [WorkerInfo(index, index, NodeFacts("here")) for index in range(n_workers)]

    def workers(self):
        return self._workers


class Env:
    """A worker's environment that runs graphs, over the kit's LocalEnv."""

    def __init__(self, local, executor):
        self._local = local
        self._executor = executor
        self._backends = {}
        self.controller = Controller(local.n_workers)
        self.runner = GraphRunner(self)

    def __getattr__(self, name):
        return getattr(self._local, name)

    def backend(self, kind, name=None):
        if kind == "exec":
            return self._exec()
        return self._local.backend(kind, name or {"sched": "roundrobin"}.get(kind))

    def run(self, graph):
        return self.runner.run(graph)

    def _exec(self):
        if "exec" not in self._backends:
            plugin_class = {"inline": "InlinePlugin", "threads": "ThreadsPlugin"}[self._executor]
            plugin = getattr(importlib.import_module(f"twister2_exec_{self._executor}.plugin"), plugin_class)()
            context = ExecutorContext(
                worker_id=self.worker_id,
                n_workers=self.n_workers,
                attempt=1,
                job_id="test",
                threads=2,
                network=self.network,
                memory=self.memory,
                log=self.log,
                operators=lambda name: self.backend("ops", name),
                backend=self.backend,
                report=lambda counters: None,
            )
            backend = plugin.exec_create(config=plugin.config_class(), context=context)
            self.on_close(backend.close)
            self._backends["exec"] = backend
        return self._backends["exec"]


def run_workers(n, function, *, executor="inline", deadline_s=30.0, **options):
    """``function(env)`` on ``n`` workers; the results by worker id."""
    cluster = LocalCluster(n, deadline_s=deadline_s, **options)
    return cluster.run(lambda local: function(Env(local, executor)))


@pytest.fixture(name="run_workers")
def run_workers_fixture():
    """``run_workers(n, function, executor=...)``: the results of ``function(env)`` by worker id."""
    return run_workers
