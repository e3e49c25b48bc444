"""Graphs whose edges have several inputs: joins, unions, a vertex joined with itself, two ways that meet again."""

from __future__ import annotations

import collections

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2.graph import Graph
from twister2.spec.errors import GraphError
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_testkit.world_tasks import Apply, Diary, Keep, Numbers

pytestmark = pytest.mark.timeout(120)

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 99)), max_size=40)


@pytest.fixture(params=EXECUTORS)
def executor(request):
    return request.param


def run_on_workers(n, executor, make):
    return run_workers(n, lambda env: env.run(make()), executor=executor)


def source(graph, name, records, parallelism):
    parts = [[records[k::parallelism][i : i + 3] for i in range(0, len(records), 3)] for k in range(parallelism)]
    graph.add_source(name, lambda index: Numbers(Diary(), parts[index]), parallelism)


def kept(results, sink):
    return sorted(record for outputs in results for part in outputs[sink] for record in part)


def joined(left, right):
    return sorted((key, (a, b)) for key, a in left for other, b in right if key == other)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(left=PAIRS, right=PAIRS, sizes=st.tuples(*[st.integers(1, 3)] * 3), algorithm=st.sampled_from(["hash", "sort"]))
def test_a_join(executor, left, right, sizes, algorithm):
    def graph():
        graph = Graph("join")
        source(graph, "left", left, sizes[0])
        source(graph, "right", right, sizes[1])
        graph.add_compute("shown", lambda index: Apply(Diary()), sizes[0])
        graph.add_sink("sink", lambda index: Keep(Diary()), sizes[2])
        graph.connect("left", "shown")
        graph.connect(["shown", "right"], "sink", "net.join", algorithm=algorithm)
        return graph

    assert kept(run_on_workers(2, executor, graph), "sink") == joined(left, right)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=PAIRS, parallelism=st.integers(1, 3))
def test_a_vertex_joined_with_itself(executor, records, parallelism):
    def graph():
        graph = Graph("self join")
        source(graph, "pairs", records, parallelism)
        graph.add_sink("sink", lambda index: Keep(Diary()), 2)
        graph.connect(["pairs", "pairs"], "sink", "net.join")
        return graph

    assert kept(run_on_workers(3, executor, graph), "sink") == joined(records, records)


def test_two_ways_that_meet_again(executor):
    """Both ways are full long before either ends: neither input is kept waiting for the other."""
    records = [(k % 50, k) for k in range(6000)]

    def graph():
        graph = Graph("diamond")
        source(graph, "pairs", records, 2)
        graph.add_compute("near", lambda index: Apply(Diary()))
        graph.add_compute("far", lambda index: Apply(Diary(), lambda pair: (pair[0], -pair[1])), 3)
        graph.add_sink("sink", lambda index: Keep(Diary()), 2)
        graph.connect("pairs", "near")
        graph.connect("pairs", "far", "net.partition")
        graph.connect(["near", "far"], "sink", "net.join", how="left")
        return graph

    seen = kept(run_on_workers(2, executor, graph), "sink")
    by_key = collections.Counter(key for key, _ in records)
    assert collections.Counter(key for key, _ in seen) == {key: count**2 for key, count in by_key.items()}


@pytest.mark.parametrize("n_inputs", [1, 2, 4])
def test_a_union_of_any_number(executor, n_inputs):
    def graph():
        graph = Graph("union")
        for number in range(n_inputs):
            source(graph, f"source {number}", [(number, k) for k in range(20)], number + 1)
        graph.add_sink("sink", lambda index: Keep(Diary()), 2)
        graph.connect([f"source {number}" for number in range(n_inputs)], "sink", "net.union")
        return graph

    assert kept(run_on_workers(2, executor, graph), "sink") == [(n, k) for n in range(n_inputs) for k in range(20)]


@pytest.mark.parametrize(
    ("sources", "operator", "said"),
    [
        (["a"], "net.join", "has 2 inputs, and edge 'a->sink' connects one input"),
        (["a", "b", "a"], "net.join", "connects 3 inputs"),
        (["a", "b"], "net.partition", "has one input"),
    ],
)
def test_a_wrong_number_of_inputs_is_refused(executor, sources, operator, said):
    def graph():
        graph = Graph("wrong")
        for name in ("a", "b"):
            source(graph, name, [(1, 1)], 1)
        graph.add_sink("sink", lambda index: Keep(Diary()), 1)
        graph.add_sink("other", lambda index: Keep(Diary()), 1)
        for name in ("a", "b"):
            graph.connect(name, "other", "net.partition")
        graph.connect(sources, "sink", operator)
        return graph

    with pytest.raises(GraphError, match=said):
        run_on_workers(1, executor, graph)


def test_no_source_at_all_is_refused():
    graph = Graph("nothing")
    graph.add_sink("sink", lambda index: Keep(Diary()))
    with pytest.raises(GraphError, match="list of sources is empty"):
        graph.connect([], "sink", "net.union")
