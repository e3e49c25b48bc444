"""Conformance suite for executors: the same answers, ends, errors and commits as every other executor.

An executor runs in a :class:`~twister2_testkit.world.World`: N workers in N threads, with networks and operators of the
kit. :mod:`twister2_testkit.mutants.executor` holds executors that the suite must reject.
"""

from __future__ import annotations

import itertools
import operator
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from twister2.graph import Graph
from twister2.graph.catalog import Catalog
from twister2.graph.compile import compile_graph
from twister2.spec.errors import GraphError, StepAbortedError, UserCodeError
from twister2.spec.plan import Placement, Plan
from twister2.spec.sched import ScheduleRequest, TaskScheduler
from twister2_testkit.capabilities import Capabilities, ConformanceSuite, needs
from twister2_testkit.world import World
from twister2_testkit.world_ops import WorldOperators
from twister2_testkit.world_tasks import Apply, CountKeys, Diary, Keep, Numbers

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


class ExecutorSuite(ConformanceSuite):
    """What every executor must do."""

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

    # -- answers -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("n_workers", "parallelism"), [(1, 1), (1, 3), (2, 2), (2, 5), (3, 2)])
    def test_every_record_arrives_once_and_in_order(self, n_workers: int, parallelism: int) -> None:
        bench = self.bench(n_workers)
        build = self.line(bench, parallelism, lambda index: numbered(20, 7, index * 1000), lambda record: record * 2)
        wanted = [[2 * (index * 1000 + k) for k in range(140)] for index in range(parallelism)]
        assert bench.outputs(build) == wanted

    @pytest.mark.parametrize("n_workers", [1, 2, 3])
    def test_shuffled_counts_are_right(self, n_workers: int) -> None:
        bench = self.bench(n_workers)

        def build() -> Graph:
            graph = Graph("count")
            pairs = [[(f"k{n % 13}", 1) for n in range(50)] for _ in range(10)]
            graph.add_source("source", lambda index: Numbers(bench.diary, pairs if index else []), 3)
            graph.add_compute("count", lambda index: CountKeys(bench.diary), 4)
            graph.add_sink("sink", lambda index: Keep(bench.diary), 1)
            graph.connect("source", "count", "world.keyed")
            graph.connect("count", "sink", "world.gather")
            return graph

        (pairs,) = bench.outputs(build)
        wanted = {f"k{k}": 20 * sum(1 for n in range(50) if n % 13 == k) for k in range(13)}
        assert dict(pairs) == wanted
        assert len(pairs) == len(wanted)

    @pytest.mark.parametrize("batches", [[], [[]], [[], [], [1], []]])
    def test_empty_sources_and_batches_end(self, batches: list[list[int]]) -> None:
        bench = self.bench(2)
        build = self.line(bench, 3, lambda index: batches if index == 1 else [])
        assert bench.outputs(build) == [[], [record for batch in batches for record in batch], []]
        assert bench.diary.of("apply", "finish") == {0: 1, 1: 1, 2: 1}

    def test_finish_is_called_once_and_what_it_emits_arrives_last(self) -> None:
        bench = self.bench(2)

        def build() -> Graph:
            graph = Graph("finish")
            graph.add_source("source", lambda index: Numbers(bench.diary, numbered(3, 2)), 2)
            graph.add_compute("apply", lambda index: Apply(bench.diary, at_end=lambda: ["last"]))
            graph.add_sink("sink", lambda index: Keep(bench.diary))
            graph.connect("source", "apply", "world.direct")
            graph.connect("apply", "sink", "world.direct")
            return graph

        assert bench.outputs(build) == [[0, 1, 2, 3, 4, 5, "last"]] * 2
        assert bench.diary.of("apply", "finish") == {0: 1, 1: 1}

    def test_named_edges_and_several_inputs(self) -> None:
        bench = self.bench(2)
        sinks: list[Keep] = []

        def keep(index: int) -> Keep:
            sinks.append(Keep(bench.diary))
            return sinks[-1]

        def build() -> Graph:
            graph = Graph("edges")
            graph.add_source("source", lambda index: Numbers(bench.diary, numbered(4, 2)), 2)
            graph.add_compute("left", lambda index: Apply(bench.diary, edges=("a",)))
            graph.add_compute("right", lambda index: Apply(bench.diary, operator.neg, edges=("b", "c")))
            graph.add_sink("sink", keep, 2)
            graph.add_sink("other", lambda index: Keep(bench.diary), 1)
            graph.connect("source", "left", "world.direct", "x")
            graph.connect("source", "right", "world.direct", "y")
            graph.connect("left", "sink", "world.direct", "a")
            graph.connect("right", "sink", "world.direct", "b")
            graph.connect("right", "other", "world.gather", "c")
            return graph

        (other,) = bench.outputs(build, "other")
        assert sorted(other) == sorted(-n for n in [*range(8), *range(8)])
        for sink in sinks:
            assert sink.by_edge == {"a": list(range(8)), "b": [-n for n in range(8)]}

    def test_one_task_has_all_the_work(self) -> None:
        bench = self.bench(3)
        build = self.line(bench, 3, lambda index: numbered(200, 5) if index == 2 else [])
        assert [len(kept) for kept in bench.outputs(build)] == [0, 0, 1000]

    def test_an_edge_that_is_not_there_is_an_error(self) -> None:
        bench = self.bench(1)

        def build() -> Graph:
            graph = Graph("edges", without_rules=["fuse"])
            graph.add_source("source", lambda index: Numbers(bench.diary, [[1]]), 1)
            graph.add_compute("apply", lambda index: Apply(bench.diary, edges=("nowhere",)))
            graph.add_sink("sink", lambda index: Keep(bench.diary))
            graph.connect("source", "apply", "world.direct")
            graph.connect("apply", "sink", "world.direct", "somewhere")
            return graph

        (end,) = bench.ends(build)
        assert isinstance(end, GraphError)
        assert "nowhere" in str(end)
        assert "somewhere" in str(end)

    # -- the life of tasks ---------------------------------------------------------------------------------------------

    def test_tasks_are_opened_first_and_closed_last_once(self) -> None:
        bench = self.bench(2)
        bench.outputs(self.line(bench, 3, lambda index: numbered(3, 3)))
        for vertex in ("source", "apply", "sink"):
            assert bench.diary.of(vertex, "open") == {0: 1, 1: 1, 2: 1}
            assert bench.diary.of(vertex, "close") == {0: 1, 1: 1, 2: 1}
        calls = list(bench.diary.calls)
        assert calls.index("apply/0 open") < calls.index("apply/0 process") < calls.index("apply/0 close")

    def test_a_task_is_never_called_by_two_threads_at_once(self) -> None:
        bench = self.bench(2)

        def build() -> Graph:
            graph = Graph("blocking", without_rules=["fuse"])
            graph.add_source("source", lambda index: Numbers(bench.diary, numbered(15, 2)), 4)
            graph.add_compute("apply", lambda index: Apply(bench.diary, blocking=True))
            graph.add_sink("sink", lambda index: Keep(bench.diary))
            graph.connect("source", "apply", "world.direct")
            graph.connect("apply", "sink", "world.direct")
            return graph

        assert bench.outputs(build) == [list(range(30))] * 4
        assert bench.diary.overlaps == []

    def test_tasks_that_are_not_marked_run_in_the_thread_of_the_step(self) -> None:
        bench = self.bench(1)
        threads = []

        def use(execution: Execution, worker_id: int, network: Any) -> Any:
            threads.append(threading.get_ident())
            with network.step("run") as step:
                execution.start(step)
                return execution.run()

        bench.work(self.line(bench, 2, lambda index: numbered(5, 2)), use)
        assert set().union(*bench.diary.threads.values()) == set(threads)

    @needs("pool")
    def test_marked_tasks_run_in_other_threads_while_others_go_on(self) -> None:
        bench = self.bench(1)
        began = threading.Event()

        def wait_for_other(record: int) -> int:
            assert began.wait(5.0), "the other task is not called meanwhile"
            return record

        def begin(record: int) -> int:
            began.set()
            return record

        def build() -> Graph:
            graph = Graph("pool", without_rules=["fuse"])
            functions = (wait_for_other, begin)
            graph.add_source("source", lambda index: Numbers(bench.diary, [[index]]), 2)
            graph.add_compute("apply", lambda index: Apply(bench.diary, functions[index], blocking=True))
            graph.add_sink("sink", lambda index: Keep(bench.diary))
            graph.connect("source", "apply", "world.direct")
            graph.connect("apply", "sink", "world.direct")
            return graph

        assert bench.outputs(build) == [[0], [1]]

    def test_a_fast_source_does_not_run_away_from_a_slow_sink(self) -> None:
        bench = self.bench(2, window=2)
        build = self.line(bench, 2, lambda index: numbered(150, 1), slow_s=0.0005)
        assert bench.outputs(build) == [list(range(150))] * 2
        assert bench.diary.furthest <= 60, f"{bench.diary.furthest} batches between sources and sinks"

    def test_waiting_costs_no_time(self) -> None:
        bench = self.bench(1)
        end = time.monotonic() + 0.5

        def build() -> Graph:
            graph = Graph("idle")
            pause = lambda: time.monotonic() < end  # noqa: E731
            graph.add_source("source", lambda index: Numbers(bench.diary, [[1]], pause=pause), 1)
            graph.add_sink("sink", lambda index: Keep(bench.diary))
            graph.connect("source", "sink", "world.direct")
            return graph

        spent = []

        def use(execution: Execution, worker_id: int, network: Any) -> Any:
            with network.step("run") as step:
                before = time.thread_time()
                execution.start(step)
                outputs = execution.run()
                spent.append(time.thread_time() - before)
            return outputs

        assert bench.work(build, use)[0]["sink"] == [[1]]
        assert spent[0] < 0.2, f"{spent[0]:.2f} s of CPU while nothing was to be done"

    def test_counters_add_up(self) -> None:
        bench = self.bench(2)

        def use(execution: Execution, worker_id: int, network: Any) -> Any:
            with network.step("run") as step:
                execution.start(step)
                execution.run()
            return execution.counters()

        ends = bench.work(self.line(bench, 4, lambda index: numbered(5, 3)), use)
        for vertex in ("vertex source", "vertex apply", "vertex sink"):
            assert sum(end[vertex]["records"] for end in ends) == 60
            assert all(end[vertex]["busy_s"] >= 0 for end in ends)
        edges = [name for name in ends[0] if name.startswith("edge ")]
        assert len(edges) == 2
        assert sum(end[edges[0]]["records"] for end in ends) == 60

    # -- errors --------------------------------------------------------------------------------------------------------

    def test_an_error_names_vertex_task_and_record(self) -> None:
        bench = self.bench(2)
        build = self.line(bench, 3, lambda index: numbered(5, 4), lambda record: 1 // (record - 13))
        ends = bench.ends(build)
        errors = [end for end in ends if isinstance(end, UserCodeError)]
        assert errors, ends
        error = errors[0]
        assert error.details["vertex"] == "apply"
        assert error.details["record"] == 14
        assert error.details["record_value"] == "13"
        assert error.details["task"] in (0, 1, 2)
        assert "ZeroDivisionError" in error.details["traceback"]
        assert "<lambda>" in error.details["traceback"]

    @pytest.mark.parametrize("method", ["open", "write", "prepare", "commit", "output"])
    def test_a_failing_sink_ends_all_workers(self, method: str) -> None:
        bench = self.bench(2)

        def build() -> Graph:
            graph = Graph("sink")
            graph.add_source("source", lambda index: Numbers(bench.diary, numbered(50, 2)), 2)
            graph.add_sink("sink", lambda index: Keep(bench.diary, fail_in=method if index == 0 else ""))
            graph.connect("source", "sink", "world.direct")
            return graph

        ends = bench.ends(build)
        first, second = ends
        assert isinstance(first, UserCodeError), ends
        assert "broke" in str(first)
        if method != "output":  # a worker that is through with its own share need not hear of it
            assert isinstance(second, (UserCodeError, StepAbortedError)), ends
            assert bench.diary.committed == []
        assert bench.diary.of("sink", "open").keys() <= {0, 1}
        assert bench.diary.of("sink", "close") == bench.diary.of("sink", "open"), "a task was not closed"

    def test_a_failing_source_aborts_sinks_everywhere(self) -> None:
        bench = self.bench(2)

        def build() -> Graph:
            graph = Graph("source")
            graph.add_source(
                "source", lambda index: Numbers(bench.diary, itertools.repeat([1]), fail_at=30 if index == 1 else -1), 2
            )
            graph.add_sink("sink", lambda index: Keep(bench.diary))
            graph.connect("source", "sink", "world.direct")
            return graph

        first, second = bench.ends(build)
        assert isinstance(second, UserCodeError)
        assert second.details["vertex"] == "source"
        assert isinstance(first, StepAbortedError)
        assert bench.diary.of("sink", "abort") == {0: 1, 1: 1}
        assert bench.diary.of("sink", "close") == {0: 1, 1: 1}
        assert bench.diary.of("source", "close") == {0: 1, 1: 1}
        assert bench.diary.committed == []

    def test_a_failing_finish_is_an_error(self) -> None:
        bench = self.bench(1)

        def build() -> Graph:
            graph = Graph("finish")
            graph.add_source("source", lambda index: Numbers(bench.diary, [[1]]), 1)
            graph.add_compute("apply", lambda index: Apply(bench.diary, at_end=lambda: [1 // 0]))
            graph.add_sink("sink", lambda index: Keep(bench.diary))
            graph.connect("source", "apply", "world.direct")
            graph.connect("apply", "sink", "world.direct")
            return graph

        (end,) = bench.ends(build)
        assert isinstance(end, UserCodeError)
        assert end.details["method"] == "finish"
        assert bench.diary.of("sink", "abort") == {0: 1}

    # -- commits, runs, ends -------------------------------------------------------------------------------------------

    def test_sinks_commit_once_with_all_committables(self) -> None:
        bench = self.bench(2)
        bench.outputs(self.line(bench, 5, lambda index: numbered(index, 2)))
        assert bench.diary.committed == [[[f"sink/{index}", 2 * index, 1] for index in range(5)]]
        assert bench.diary.of("sink", "prepare") == dict.fromkeys(range(5), 1)
        assert bench.diary.of("sink", "commit") == {0: 1}
        assert bench.diary.of("sink", "abort") == {}

    def test_a_prepared_plan_runs_many_times(self) -> None:
        bench = self.bench(2)
        outputs = bench.outputs(self.line(bench, 3, lambda index: numbered(4, 3, index)), runs=5)
        assert outputs == [[index + k for k in range(12)] for index in range(3)]
        assert [len(operators.made) for operators in bench.operators] == [2, 2], "operators are made once"
        assert len(bench.diary.committed) == 5

    def endless(self, bench: Bench) -> Build:
        """A graph whose sources never end."""

        def build() -> Graph:
            graph = Graph("endless")
            graph.add_source("source", lambda index: Numbers(bench.diary, itertools.repeat([1, 2])), 2)
            graph.add_sink("sink", lambda index: Keep(bench.diary))
            graph.connect("source", "sink", "world.direct")
            return graph

        return build

    def test_cancel_stops_at_once_and_twice_is_no_error(self) -> None:
        bench = self.bench(1)

        def use(execution: Execution, worker_id: int, network: Any) -> Any:
            with network.step("run") as step:
                execution.start(step)
                assert not execution.step(0.01)
                execution.cancel()
                execution.cancel()
            return dict(bench.diary.calls)

        (calls,) = bench.work(self.endless(bench), use)
        assert isinstance(calls, dict), calls
        assert {calls.get(f"sink/{k} abort") for k in (0, 1)} == {1}
        assert {calls.get(f"{v}/{k} close") for v in ("sink", "source") for k in (0, 1)} == {1}
        assert bench.diary.committed == []

    def test_a_cancelled_plan_can_run_again(self) -> None:
        bench = self.bench(1)
        build = self.line(bench, 2, lambda index: numbered(300, 1), slow_s=0.0005)

        def use(execution: Execution, worker_id: int, network: Any) -> Any:
            with network.step("run") as step:
                execution.start(step)
                execution.step(0.01)
                execution.cancel()
            with network.step("run") as step:
                execution.start(step)
                return execution.run()

        (end,) = bench.work(build, use)
        assert end["sink"] == [list(range(300))] * 2

    def test_drain_delivers_what_is_in_flight(self) -> None:
        bench = self.bench(2)

        def use(execution: Execution, worker_id: int, network: Any) -> Any:
            with network.step("run") as step:
                execution.start(step)
                execution.step(0.02)
                execution.drain()
                return execution.run()

        ends = bench.work(self.endless(bench), use)
        assert all(isinstance(end, Mapping) for end in ends), ends
        assert bench.diary.ahead == 0, "batches that were read have not arrived"
        assert all(kept for end in ends for kept in end["sink"])

    def test_a_step_keeps_its_budget(self) -> None:
        bench = self.bench(1)

        def use(execution: Execution, worker_id: int, network: Any) -> Any:
            with network.step("run") as step:
                execution.start(step)
                before = time.monotonic()
                execution.step(0.05)
                spent = time.monotonic() - before
                execution.cancel()
            return spent

        (spent,) = bench.work(self.endless(bench), use)
        assert 0.03 <= spent < 1.0

    @needs("checkpoints")
    def test_a_checkpoint_is_consistent_and_restores(self) -> None:
        bench = self.bench(1)
        build = self.line(bench, 2, lambda index: numbered(400, 1), slow_s=0.0002)

        def use(execution: Execution, worker_id: int, network: Any) -> Any:
            with network.step("run") as step:
                execution.start(step)
                execution.step(0.005)
                execution.checkpoint(7)
                while execution.snapshot() is None:
                    execution.step(0.001)
                snapshot = execution.snapshot()
                execution.cancel()
            with network.step("run") as step:
                execution.start(step, snapshot)
                return snapshot, execution.run()

        (end,) = bench.work(build, use)
        assert isinstance(end, tuple), end
        snapshot, outputs = end
        assert snapshot.checkpoint == 7
        for index in (0, 1):
            position = int(snapshot.tasks[f"source/{index}"])
            assert 0 < position < 400
            assert int(snapshot.tasks[f"apply/{index}"]) == position == int(snapshot.tasks[f"sink/{index}"])
            assert outputs["sink"][index] == list(range(position, 400))
        assert bench.diary.committed[-1][0][2] == 8, "the commit after checkpoint 7 is number 8"

    def test_an_unknown_mode_is_refused(self) -> None:
        if self.capabilities.streams:
            return
        bench = self.bench(1)
        plan = attrs.evolve(bench.plan(self.line(bench, 1, lambda index: [])), mode="stream")
        executor = self.make_executor(bench.world.context(0, lambda name: bench.operators[0]))
        try:
            with pytest.raises(GraphError, match="stream"):
                executor.prepare(plan)
        finally:
            executor.close()
            executor.close()
