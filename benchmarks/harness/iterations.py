"""Iterations that do nothing but one allreduce of 8 bytes, by level (imports Twister2, so for its contestants only)."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.contest import Contest
from harness.sizes import ITERATIONS
from twister2.graph import Graph
from twister2.spec.tasks import END, Sink, Source
from twister2_net import allreduce
from twister2_tset import TSetContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.running import Prepared

TURNS = 3


class _One(Source):
    """A single record, 1.0."""

    def __init__(self, index: int) -> None:
        self._left = [np.ones(1)]

    def poll(self) -> Any:
        return self._left.pop() if self._left else END


class _Last(Sink):
    """Keeps a value."""

    def __init__(self, index: int) -> None:
        self._value = 0.0

    def write(self, batch: Any, edge: str) -> None:
        self._value = float(batch[0])

    def output(self) -> float:
        return self._value


def prepared(env: WorkerEnvironment, name: str) -> Prepared:
    """A plan of one iteration: 1.0 from each worker, and their sum on all."""
    graph = Graph(name)
    graph.add_source("one", _One, env.n_workers)
    graph.add_sink("sum", _Last, env.n_workers)
    graph.connect("one", "sum", "net.allreduce", reducer="sum")
    return env.prepare(graph)


def _slowest(env: WorkerEnvironment, value: float) -> float:
    return max(env.network.exchange_objects(value))


def _timed(env: WorkerEnvironment, call: Callable[[], Any], calls: int) -> float:
    """Median seconds of a call, on the slowest worker."""
    spent = []
    for number in range(calls + calls // 10):
        begin = time.perf_counter()
        call()
        if number >= calls // 10:  # those before warm up
            spent.append(time.perf_counter() - begin)
    return _slowest(env, statistics.median(spent))


def measure(env: WorkerEnvironment, size: str) -> dict[str, Any]:
    """The answer: seconds of an iteration by level, and those of a nested loop beside a flat one."""
    calls, side = ITERATIONS[size]
    context = TSetContext(env, name="set")
    ones = context.parallelize([1.0] * env.n_workers).cache()
    total = context.parallelize([0.0]).replicate().cache()
    inner, outer = prepared(env, "inner"), prepared(env, "outer")
    with inner, outer, context.evaluating(ones.all_reduce("sum"), into=total) as step:
        figures = {
            "call of allreduce": _timed(env, lambda: allreduce(env, 1.0), calls),
            "prepared graph": _timed(env, inner.run, calls),
            "prepared set": _timed(env, step, calls),
        }
        loops: dict[str, list[float]] = {"nested": [], "flat": []}
        sums: set[float] = set(total.local())
        for _ in range(TURNS):
            for name, n_outer, n_inner in (("nested", side, side), ("flat", 1, side * side)):
                env.barrier("loop")
                begin = time.perf_counter()
                for _ in range(n_outer):
                    for _ in range(n_inner):
                        outputs = inner.run()
                    if name == "nested":  # an action of the outer loop, as a test of convergence is
                        outputs = outer.run()
                    sums.update(outputs["sum"])
                loops[name].append(_slowest(env, time.perf_counter() - begin))
    right = all(each == {float(env.n_workers)} for each in env.network.exchange_objects(sums))
    nested, flat = (statistics.median(loops[name]) for name in ("nested", "flat"))
    return {
        "right": right,
        "figures": figures,
        "pairs": {f"loops of {side} x {side} and of {side**2:,}": [nested, flat]},
    }


def main(env: WorkerEnvironment) -> None:
    """The program of a contestant that imports it."""
    contest = Contest(env.args, reporter=env.worker_id == 0)
    contest.report(contest.run(lambda: measure(env, contest.size)))
