"""Graphs that feed each other: sets kept in place, named inputs, prepared graphs, runs beside the program."""

from __future__ import annotations

import gc
from itertools import chain

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2.graph import Graph
from twister2.spec.errors import GraphError, UsageError, UserCodeError
from twister2.spec.tasks import Compute
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_testkit.world_tasks import Apply, Diary, Keep, Numbers

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=EXECUTORS)
def executor(request):
    return request.param


def source(graph, name, records, parallelism):
    parts = [[records[k::parallelism][i : i + 3] for i in range(0, len(records), 3)] for k in range(parallelism)]
    graph.add_source(name, lambda index: Numbers(Diary(), parts[index]), parallelism)


def keeping(env, records, sources, operator="net.direct", **options):
    graph = Graph("keeps")
    source(graph, "source", records, sources)
    stored = graph.keep("source", operator, name="kept", **options)
    outputs = env.run(graph)
    assert dict(outputs) == {}
    return graph, stored


def reading(env, stored, function=lambda record: record):
    graph = Graph("reads")
    graph.add_stored(stored)
    graph.add_compute("shown", lambda index: Apply(Diary(), function))
    graph.add_sink("sink", lambda index: Keep(Diary()))
    graph.connect("kept", "shown")
    graph.connect("shown", "sink")
    return graph


class Nearest(Compute):
    """Each number to the nearest of the stored centres."""

    narrow = True

    def open(self, context):
        self.centres = sorted(context.inputs["centres"].records())

    def process(self, batch, emit, edge):
        emit([(min(self.centres, key=lambda centre: (abs(centre - x), centre)), x) for x in batch])


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(st.integers(), max_size=40), sizes=st.tuples(st.integers(1, 3), st.integers(1, 4)))
@pytest.mark.parametrize("level", ["memory", "disk"])
def test_what_one_graph_keeps_another_reads_in_place(executor, records, sizes, level):
    def program(env):
        _, stored = keeping(env, records, sizes[0], "net.partition", parallelism=sizes[1], level=level)
        assert stored.parallelism == sizes[1]
        mine = sorted(stored.records())
        assert len(mine) == sum(partition.n_records for partition in stored.local().values())
        first = env.run(reading(env, stored))["sink"]
        again = env.run(reading(env, stored))["sink"]
        assert first == again
        assert sorted(record for part in first for record in part) == mine  # nothing has moved
        return mine

    assert sorted(chain(*run_workers(2, program, executor=executor))) == sorted(records)


def test_a_loop_that_reads_and_fills_the_same_set(executor):
    def program(env):
        _, stored = keeping(env, list(range(12)), 3)
        graph = reading(env, stored, lambda record: record + 1)
        graph.keep("shown", into=stored)
        with env.prepare(graph) as prepared:
            layout = stored.layout
            for _ in range(5):
                before = sorted(stored.records())
                outputs = prepared.run()
                assert sorted(record for part in outputs["sink"] for record in part) == [x + 1 for x in before]
            assert stored.layout == layout
            assert "the stored set kept" in prepared.explain()
        return list(stored.records())

    assert sorted(chain(*run_workers(2, program, executor=executor))) == [x + 5 for x in range(12)]


@pytest.mark.parametrize("whole", [True, False])
def test_named_inputs(executor, whole):
    """Centres on every worker, or a partition of them for each task."""

    def program(env):
        graph = Graph("centres")
        source(graph, "centres", [0, 100], 1)
        centres = graph.keep("centres", "net.broadcast" if whole else "net.direct", parallelism=2 if whole else 1)
        if whole:
            graph.place("keep kept centres", range(2))
        env.run(graph)
        graph = Graph("nearest")
        source(graph, "numbers", list(range(0, 120, 7)), 3 if whole else 1)
        graph.add_compute("nearest", lambda index: Nearest())
        graph.add_sink("sink", lambda index: Keep(Diary()))
        graph.connect("numbers", "nearest")
        graph.connect("nearest", "sink")
        graph.give("nearest", "centres", centres, whole=whole)
        return [pair for part in env.run(graph)["sink"] for pair in part]

    pairs = sorted(chain(*run_workers(2, program, executor=executor)), key=lambda pair: pair[1])
    assert pairs == [(0 if x <= 50 else 100, x) for x in range(0, 120, 7)]


def test_what_cannot_be_given_is_refused(executor):
    def program(env):
        _, stored = keeping(env, [1, 2, 3], 3)
        graph = reading(env, stored)
        graph.give("shown", "again", stored, whole=True)
        with pytest.raises(GraphError, match="read as a whole on each of 2"):
            env.run(graph)
        with pytest.raises(GraphError, match="two inputs of 'shown' are called 'again'"):
            graph.give("shown", "again", stored)
        _, other = keeping(env, [1, 2], 2)
        graph = reading(env, stored)
        graph.give("shown", "a", stored)
        graph.give("shown", "b", other)
        with pytest.raises(GraphError, match="another of its inputs"):
            env.run(graph)
        stored.close()
        with pytest.raises(UsageError, match="it is closed"):
            env.run(reading(env, stored))
        empty = Graph("never run")
        source(empty, "source", [1], 1)
        with pytest.raises(UsageError, match="no run of a graph that keeps it"):
            env.run(reading(env, empty.keep("source", name="kept")))
        with pytest.raises(UsageError, match="levels are"):
            empty.keep("source", level="tape")

    run_workers(2, program, executor=executor)


def test_a_run_that_fails_leaves_what_was_kept(executor):
    def program(env):
        _, stored = keeping(env, [1, 2, 3, 4], 2)
        graph = reading(env, stored, lambda record: 1 // (record - 3))
        graph.keep("shown", into=stored)
        try:
            env.run(graph)
        except Exception:
            kept = sorted(stored.records())
            assert len(kept) == 2
            raise
        raise AssertionError("it did not fail")

    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        run_workers(2, program, executor=executor)


def test_what_does_not_fit_goes_to_disk(executor, tmp_path):
    """The set is three times the budget, and read twice; large batches come in parts."""
    arrays = [np.full(40_000, number, dtype=np.int64) for number in range(60)]

    def program(env):
        graph = Graph("large")
        graph.add_source("source", lambda index: Numbers(Diary(), arrays[index::2]), 2)
        stored = graph.keep("source", name="kept")
        env.run(graph)
        use = env.memory.use()
        assert use.reserved <= use.budget
        assert use.spilled > 0
        assert sum(part.n_records for part in stored.local().values()) == 30 * 40_000
        for _ in range(2):
            batches = [batch for part in stored.local().values() for batch in part.batches()]
            numbers = np.concatenate(batches)
            assert (numbers == np.repeat(np.arange(env.worker_id, 60, 2), 40_000)).all()
        stored.clear()
        assert env.memory.use().reserved < 1 << 20

    run_workers(2, program, executor=executor, memory_bytes=4 << 20, spill_dirs=[str(tmp_path)])


def test_two_runs_beside_the_program(executor):
    def program(env):
        _, stored = keeping(env, list(range(50)), 2)
        one = env.start(reading(env, stored, lambda record: record * 2))
        two = env.start(reading(env, stored, lambda record: record * 3))
        everybody = env.network.exchange_objects(env.worker_id)  # a call of the program between
        while not two.test():
            pass
        assert two.test()
        sums = [sum(record for part in run.wait()["sink"] for record in part) for run in (two, one)]
        assert one.wait() is one.wait()
        return everybody, sums

    results = run_workers(2, program, executor=executor)
    assert [everybody for everybody, _ in results] == [[0, 1], [0, 1]]
    assert np.sum([sums for _, sums in results], axis=0).tolist() == [3 * 1225, 2 * 1225]


def test_a_graph_runs_once_at_a_time(executor):
    def program(env):
        _, stored = keeping(env, [1, 2], 2)
        graph = reading(env, stored)
        run = env.start(graph)
        with pytest.raises(UsageError, match="runs already"):
            env.start(graph)
        run.wait()
        assert env.run(graph)["sink"]

    run_workers(2, program, executor=executor)


def test_a_run_beside_the_program_fails_on_all(executor):
    def program(env):
        _, stored = keeping(env, [1, 2, 3, 4], 2)
        run = env.start(reading(env, stored, lambda record: 1 // (record - 3)))
        run.wait(30)

    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        run_workers(2, program, executor=executor)


def test_a_prepared_graph_survives_many_others_and_is_closed(executor):
    def program(env):
        _, stored = keeping(env, [1, 2], 2)
        prepared = env.prepare(reading(env, stored))
        execution = env.runner.plan(prepared._graph).execution
        for number in range(12):
            env.run(reading(env, stored, lambda record, number=number: record + number))
        assert env.runner.plan(prepared._graph).execution is execution
        prepared.close()
        prepared.close()
        with pytest.raises(UsageError, match="prepared graph 'reads' is closed"):
            prepared.run()
        gc.collect()
        assert len(env.runner._plans) <= 8

    run_workers(2, program, executor=executor)
