"""Conformance suite for executors: the same answers, ends, errors and commits as every other executor.

An executor runs in a :class:`~twister2_testkit.world.World`: N workers in N threads, with networks and operators of the
kit. :mod:`twister2_testkit.mutants.executor` holds executors that the suite must reject.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from twister2.graph import Graph
from twister2.spec.errors import GraphError, StepAbortedError, UserCodeError
from twister2_testkit.capabilities import needs
from twister2_testkit.world_tasks import Apply, Keep, Numbers

if TYPE_CHECKING:
    from twister2.spec.executor import Execution

from twister2_testkit.executor_answers import ExecutorAnswers
from twister2_testkit.executor_bench import Bench, Build, ExecutorCapabilities, numbered

__all__ = ["ExecutorCapabilities", "ExecutorSuite"]


class ExecutorSuite(ExecutorAnswers):
    """What every executor must do."""

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
