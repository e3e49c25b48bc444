"""Twister2: env.prepare of large graphs (checked, rewritten, placed, no task made yet), and the plan of a long set."""

# benchmark: venv=twister2 launch=submit packages=twister2-core,twister2-net,twister2-tset
from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from harness.contest import Contest
from harness.sizes import PLANNING

from twister2.graph import Graph
from twister2.spec.tasks import END, Compute, Sink, Source
from twister2_tset import TSetContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.running import Prepared


class Zero(Source):
    """One record, 0."""

    def __init__(self, index: int) -> None:
        self._left = [[0]]

    def poll(self) -> Any:
        return self._left.pop() if self._left else END


class AddOne(Compute):
    """Each number and 1."""

    narrow = True

    def process(self, batch: Any, emit: Any, edge: str) -> None:
        emit([number + 1 for number in batch])


class Total(Sink):
    """The sum of all numbers that came."""

    def __init__(self) -> None:
        self._total = 0

    def write(self, batch: Any, edge: str) -> None:
        self._total += sum(batch)

    def output(self) -> int:
        return self._total


def chain(vertices: int, operator: str, partitions: int) -> Graph:
    """A source, steps that add one, and a sink."""
    graph = Graph("chain")
    graph.add_source("v0", Zero, partitions)
    for number in range(1, vertices - 1):
        graph.add_compute(f"v{number}", lambda index: AddOne(), partitions)
        graph.connect(f"v{number - 1}", f"v{number}", operator)
    graph.add_sink("sum", lambda index: Total(), partitions)
    graph.connect(f"v{vertices - 2}", "sum", operator)
    return graph


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)
    size, n = PLANNING[contest.size], env.n_workers
    context = TSetContext(env)
    figures: dict[str, float] = {}

    def timed(name: str, prepare: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        plan = prepare()
        figures[name] = max(env.network.exchange_objects(time.perf_counter() - begin))
        return plan

    def total(plan: Prepared) -> int:
        with plan:
            return sum(env.network.exchange_objects(sum(plan.run()["sum"])))

    def job() -> dict[str, object]:
        steps, many = f"{size.vertices:,} vertices", f"{size.partitions:,} partitions"
        env.prepare(chain(3, "net.direct", n)).close()  # imports what planning needs
        graphs = {
            f"{steps}, one to one": chain(size.vertices, "net.direct", n),
            f"{steps}, an exchange at each edge": chain(size.vertices, "net.partition", n),
            f"{many}, one to one": chain(3, "net.direct", size.partitions),
            f"{many} to as many": chain(3, "net.keyed_partition", size.partitions),
        }
        direct, exchanges, wide, crossed = (
            timed(name, lambda g=graph: env.prepare(g)) for name, graph in graphs.items()
        )
        right = total(direct) == total(exchanges) == n * (size.vertices - 2) and total(wide) == size.partitions
        crossed.close()
        numbers = context.parallelize([0] * n)
        for _ in range(size.vertices - 2):
            numbers = numbers.map(lambda number: number + 1)
        kept = context.parallelize([0] * n).cache()
        plan = timed(f"set of {size.vertices:,} steps", lambda: context.evaluating(numbers, into=kept))
        with plan:
            plan()
        sums = env.network.exchange_objects(sum(kept.local()))
        return {"right": right and sum(sums) == n * (size.vertices - 2), "figures": figures}

    contest.report(contest.run(job))
