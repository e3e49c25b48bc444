"""env.run over the real network and operators, with threads as workers."""

from __future__ import annotations

import operator
from collections import Counter

import pytest

from twister2.graph import Graph
from twister2.spec.errors import DataNotFoundError, StepMismatchError, Twister2Error, UserCodeError
from twister2.spec.tasks import Compute
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.graphs import EXECUTORS, GraphEnv
from twister2_testkit.world_tasks import Apply, Diary, Keep, Numbers


@pytest.fixture(params=EXECUTORS)
def executor(request):
    return request.param


@pytest.fixture(params=[1, 2, 3])
def n_workers(request):
    return request.param


def runner_for(env, executor):
    """A GraphRunner on a worker of a LocalCluster."""
    return GraphEnv(env, executor).runner


class Split(Compute):
    """Lines to (word, 1) pairs."""

    narrow = True

    def process(self, batch, emit, edge):
        emit([(word, 1) for line in batch for word in line.split()])


def word_count(diary, lines, n_sources, n_counters):
    graph = Graph("words")
    parts = [[lines[k::n_sources][i : i + 5] for i in range(0, len(lines), 5)] for k in range(n_sources)]
    graph.add_source("lines", lambda index: Numbers(diary, parts[index]), n_sources)
    graph.add_compute("split", lambda index: Split())
    graph.add_compute("again", lambda index: Apply(diary))
    graph.add_sink("counts", lambda index: Keep(diary), n_counters)
    graph.connect("lines", "split")
    graph.connect("split", "again")
    graph.connect("again", "counts", "net.keyed_reduce", reducer=operator.add)
    return graph


LINES = [f"the {k % 7} quick {k % 3} fox" for k in range(200)]
WORDS = Counter(word for line in LINES for word in line.split())


@pytest.mark.parametrize(("n_sources", "n_counters"), [(1, 1), (3, 2), (4, 5)])
def test_words_are_counted(executor, n_workers, n_sources, n_counters):
    diary = Diary()

    def program(env):
        runner = runner_for(env, executor)
        graph = word_count(diary, LINES, n_sources, n_counters)
        return [runner.run(graph)["counts"] for _ in range(3)][-1]

    pairs = [pair for kept in LocalCluster(n_workers).run(program) for part in kept for pair in part]
    assert dict(pairs) == dict(WORDS)
    assert len(pairs) == len(WORDS)
    assert len(diary.committed) == 3


@pytest.mark.parametrize("error", [DataNotFoundError("no file 'x'", why="not there", remedy="look"), ValueError("bad")])
def test_a_planner_fails_on_all_workers_for_one_cause(executor, error):
    raised = {}

    def planner():
        raised["planner"] = raised.get("planner", 0) + 1
        raise error

    def program(env):
        graph = Graph("planned")
        graph.add_source("source", lambda index, planned: Numbers(Diary(), planned), 2, planner=planner)
        graph.add_sink("sink", lambda index: Keep(Diary()))
        graph.connect("source", "sink")
        try:
            runner_for(env, executor).run(graph)
        except Twister2Error as caught:
            raised[env.worker_id] = caught
            return

    LocalCluster(3).run(program)
    kind = DataNotFoundError if isinstance(error, DataNotFoundError) else UserCodeError
    assert raised.pop("planner") == 1
    assert sorted(raised) == [0, 1, 2]
    assert {type(caught) for caught in raised.values()} == {kind}
    assert len({caught.what for caught in raised.values()}) == 1


def test_what_a_planner_gave_reaches_all_and_is_kept(executor):
    calls = []

    def program(env):
        def planner():
            calls.append(env.worker_id)
            return {0: [[1, 2]], 1: [[3]]}

        graph = Graph("planned")
        graph.add_source("source", lambda index, planned: Numbers(Diary(), planned[index]), 2, planner=planner)
        graph.add_sink("sink", lambda index: Keep(Diary()))
        graph.connect("source", "sink")
        runner = runner_for(env, executor)
        runner.run(graph)
        return runner.run(graph)["sink"]

    assert LocalCluster(2).run(program) == [[[1, 2]], [[3]]]
    assert calls == [0]


def test_the_error_of_one_worker_ends_all(executor):
    diary = Diary()

    def program(env):
        graph = Graph("fails")
        graph.add_source("source", lambda index: Numbers(diary, [[k] for k in range(1000)]), 3)
        graph.add_compute("divide", lambda index: Apply(diary, lambda record: 1 // (record - 500 - index)))
        graph.add_sink("sink", lambda index: Keep(diary), 2)
        graph.connect("source", "divide")
        graph.connect("divide", "sink", "net.partition")
        runner_for(env, executor).run(graph)

    with pytest.raises(UserCodeError) as caught:
        LocalCluster(3).run(program)
    details = caught.value.details
    assert details["vertex"] == "divide"
    assert details["record"] == 501 + details["task"]
    assert diary.committed == []
    for vertex in ("source", "divide", "sink"):
        assert diary.of(vertex, "open") == diary.of(vertex, "close")


def test_workers_with_different_graphs_are_told(executor):
    def program(env):
        graph = Graph("one" if env.worker_id else "other")
        graph.add_source("source", lambda index: Numbers(Diary(), [[1]]), 2)
        graph.add_sink("sink", lambda index: Keep(Diary()), 1)
        graph.connect("source", "sink", "net.gather")
        runner_for(env, executor).run(graph)

    with pytest.raises(StepMismatchError):
        LocalCluster(2).run(program)


def test_a_changed_graph_is_planned_again(executor):
    def program(env):
        runner = runner_for(env, executor)
        graph = Graph("grows")
        graph.add_source("source", lambda index: Numbers(Diary(), [[index]]), 2)
        graph.add_sink("sink", lambda index: Keep(Diary()))
        graph.connect("source", "sink")
        first = runner.run(graph)
        graph.add_sink("more", lambda index: Keep(Diary()))
        graph.connect("source", "more")
        return sorted(first), sorted(runner.run(graph))

    assert LocalCluster(2).run(program) == [(["sink"], ["more", "sink"])] * 2


def test_many_graphs_leave_nothing_behind(executor):
    def program(env):
        runner = runner_for(env, executor)
        for number in range(30):
            graph = Graph(f"graph {number}")
            graph.add_source("source", lambda index: Numbers(Diary(), [[index]]), 2)
            graph.add_sink("sink", lambda index: Keep(Diary()))
            graph.connect("source", "sink")
            runner.run(graph)
        held = dict(env.memory.use().holders)
        return len(runner._plans), sum(held.values())

    for prepared, held in LocalCluster(2).run(program):
        assert prepared <= 8
        assert held < 1 << 20
