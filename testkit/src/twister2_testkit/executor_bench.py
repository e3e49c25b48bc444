"""A bench for tests of executors: a world, a diary, operators, and ways to run a graph in them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from twister2.graph import Graph
from twister2.graph.catalog import Catalog
from twister2.graph.compile import compile_graph
from twister2.spec.plan import Placement, Plan
from twister2.spec.sched import ScheduleRequest, TaskScheduler
from twister2_testkit.capabilities import Capabilities, ConformanceSuite
from twister2_testkit.world import World
from twister2_testkit.world_ops import WorldOperators
from twister2_testkit.world_tasks import Apply, Diary, Keep, Numbers

if TYPE_CHECKING:
    from twister2.spec.executor import Execution, Executor, ExecutorContext

Build = Callable[[], Graph]


@attrs.frozen(kw_only=True)
class ExecutorCapabilities(Capabilities):
    """What an executor can do.

    :ivar pool: runs tasks marked blocking in other threads. :ivar checkpoints: ``checkpoint`` and ``restore`` work in
        mode batch. :ivar streams: runs graphs of mode ``stream``.
    """

    pool: bool = False
    checkpoints: bool = False
    streams: bool = False


class InTurn(TaskScheduler):
    """Task k on worker k mod W: the kit needs no plugin."""

    def schedule(self, request: ScheduleRequest) -> Placement:
        """Place the tasks."""
        size = len(request.workers)
        return Placement({v.name: tuple(k % size for k in range(v.parallelism)) for v in request.vertices})


class Bench:
    """One test's world, diary and operators, and ways to run a graph in it."""

    def __init__(self, make: Callable[[ExecutorContext], Executor], n_workers: int, window: int = 4) -> None:
        self.world = World(n_workers, window)
        self.diary = Diary()
        self.operators = [WorldOperators() for _ in range(n_workers)]
        self._make = make

    def plan(self, build: Build) -> Plan:
        """The plan every worker gets."""
        catalog = Catalog(lambda name: self.operators[0])
        return compile_graph(build(), workers=self.world.infos, scheduler=InTurn(), catalog=catalog).plan

    def work(self, build: Build, use: Callable[[Execution, int, Any], Any]) -> list[Any]:
        """``use(execution, worker id, network)`` on every worker; its results and exceptions."""

        def one(worker_id: int) -> Any:
            context = self.world.context(worker_id, lambda name: self.operators[worker_id])
            executor = self._make(context)
            try:
                execution = executor.prepare(self.plan(build))
                try:
                    return use(execution, worker_id, context.network)
                finally:
                    execution.close()
            finally:
                executor.close()

        return self.world.run(one)

    def ends(self, build: Build, runs: int = 1) -> list[Any]:
        """Run the graph; each worker's outputs (of the last run) or its exception."""

        def use(execution: Execution, worker_id: int, network: Any) -> Any:
            outputs: Mapping[str, list[Any]] = {}
            for _ in range(runs):
                with network.step("run") as step:
                    execution.start(step)
                    outputs = execution.run()
            return outputs

        return self.work(build, use)

    def outputs(self, build: Build, sink: str = "sink", runs: int = 1) -> list[Any]:
        """Run the graph to a good end; the outputs of all tasks of a sink, by task index."""
        ends = self.ends(build, runs)
        for end in ends:
            if isinstance(end, BaseException):
                raise AssertionError(f"a worker failed: {end!r}") from end
        n_workers = self.world.n_workers
        total = sum(len(end[sink]) for end in ends)
        return [ends[index % n_workers][sink][index // n_workers] for index in range(total)]


def numbered(n_batches: int, size: int, start: int = 0) -> list[list[int]]:
    """Batches of consecutive numbers."""
    return [list(range(start + k * size, start + (k + 1) * size)) for k in range(n_batches)]


class ExecutorTests(ConformanceSuite):
    """Base of the tests of executors."""

    capabilities = ExecutorCapabilities()

    @abstractmethod
    def make_executor(self, context: ExecutorContext) -> Executor:
        """The executor under test for one worker."""

    def bench(self, n_workers: int = 1, window: int = 4) -> Bench:
        """A fresh bench."""
        return Bench(self.make_executor, n_workers, window)

    def line(
        self,
        bench: Bench,
        parallelism: int,
        batches: Callable[[int], Sequence[Any]],
        function: Callable[[Any], Any] = lambda record: record,
        **sink: Any,
    ) -> Build:
        """A graph source -> apply -> sink, task k to task k."""

        def build() -> Graph:
            graph = Graph("line", without_rules=["fuse"])
            graph.add_source("source", lambda index: Numbers(bench.diary, batches(index)), parallelism)
            graph.add_compute("apply", lambda index: Apply(bench.diary, function))
            graph.add_sink("sink", lambda index: Keep(bench.diary, **sink), two_phase=True)
            graph.connect("source", "apply", "world.direct")
            graph.connect("apply", "sink", "world.direct")
            return graph

        return build
