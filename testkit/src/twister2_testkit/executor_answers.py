"""Tests of executors: answers, and the life of tasks."""

from __future__ import annotations

import itertools
import operator
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2.graph import Graph
from twister2.spec.errors import GraphError
from twister2_testkit.capabilities import needs
from twister2_testkit.world_tasks import Apply, CountKeys, Keep, Numbers

if TYPE_CHECKING:
    from twister2.spec.executor import Execution
    from twister2.spec.tasks import Emit

from twister2_testkit.executor_bench import ExecutorTests, numbered
from twister2_testkit.executor_shapes import Shape, shapes


class ExecutorAnswers(ExecutorTests):
    """Every record arrives; tasks are called as their contract says."""

    # -- answers -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("n_workers", "parallelism"), [(1, 1), (1, 3), (2, 2), (2, 5), (3, 2)])
    def test_every_record_arrives_once_and_in_order(self, n_workers: int, parallelism: int) -> None:
        bench = self.bench(n_workers)
        build = self.line(bench, parallelism, lambda index: numbered(20, 7, index * 1000), lambda record: record * 2)
        wanted = [[2 * (index * 1000 + k) for k in range(140)] for index in range(parallelism)]
        assert bench.outputs(build) == wanted

    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(shape=shapes(), n_workers=st.integers(1, 3), window=st.integers(1, 3))
    def test_any_graph_gives_what_a_plain_loop_gives(self, shape: Shape, n_workers: int, window: int) -> None:
        bench = self.bench(n_workers, window)
        kept = bench.outputs(lambda: shape.build(bench.diary))
        assert Counter(pair for part in kept for pair in part) == shape.expected()
        assert bench.diary.overlaps == []

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
        end = time.monotonic() + 0.6

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
        assert spent[0] < 0.08, f"{spent[0]:.2f} s of CPU while nothing was to be done"

    @pytest.mark.parametrize("rules", [[], ["fuse"]], ids=["fused", "apart"])
    def test_timers_are_called_when_they_are_due(self, rules: list[str]) -> None:
        bench = self.bench(1)
        end = time.monotonic() + 10.0
        called: list[int] = []

        class Ticks(Apply):
            def timer(self, now_ns: int, emit: Emit) -> int | None:
                called.append(now_ns)
                emit([f"tick {len(called)}"])
                return now_ns + 20_000_000 if len(called) < 4 else None

        def build() -> Graph:
            graph = Graph("timers", without_rules=rules)
            source = lambda index: Numbers(bench.diary, [[1]], pause=lambda: len(called) < 4 and time.monotonic() < end)  # noqa: E731
            graph.add_source("source", source, 1)
            graph.add_compute("ticks", lambda index: Ticks(bench.diary), narrow=True)
            graph.add_compute("apply", lambda index: Apply(bench.diary), narrow=True)
            graph.add_sink("sink", lambda index: Keep(bench.diary))
            graph.connect("source", "ticks", "world.direct")
            graph.connect("ticks", "apply", "world.direct")
            graph.connect("apply", "sink", "world.direct")
            return graph

        assert bench.outputs(build) == [["tick 1", "tick 2", "tick 3", "tick 4", 1]]
        assert all(later - earlier >= 20_000_000 for earlier, later in itertools.pairwise(called))

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
