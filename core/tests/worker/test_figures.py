"""Sums over all runs of an attempt."""

from __future__ import annotations

import pytest

from twister2.graph import Graph
from twister2.spec.tasks import END, Sink, Source
from twister2.worker.figures import MOST, OTHERS, Figures
from twister2_testkit.graphs import run_workers


def run(**values):
    return {"vertex a": values, "edge 0 a->b": {"records": 99.0}}


def test_runs_are_summed_by_graph_and_vertex():
    figures = Figures()
    figures.add("one", run(records=2, busy_s=0.5, unknown=7))
    figures.add("one", run(records=3, busy_s=0.25))
    figures.add("", run(records=1))
    assert figures.runs == 3
    assert figures.totals() == {"one: a": {"runs": 2, "records": 5, "busy_s": 0.75}, "a": {"runs": 1, "records": 1}}


def test_a_loop_that_names_its_graphs_takes_bounded_memory():
    figures = Figures()
    for number in range(10 * MOST):
        figures.add(f"turn {number}", run(records=1))
    totals = figures.totals()
    assert len(totals) == MOST + 1
    assert sum(values["records"] for values in totals.values()) == 10 * MOST
    assert totals[OTHERS]["runs"] == 9 * MOST


class Numbers(Source):
    def __init__(self, index):
        self.batches = [[1, 2, 3]]

    def poll(self):
        return self.batches.pop() if self.batches else END


class Nothing(Sink):
    def __init__(self, index):
        pass

    def write(self, batch, edge):
        return


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_a_prepared_graph_is_counted_at_every_run(executor):
    def main(env):
        graph = Graph("loop")
        graph.add_source("numbers", Numbers, env.n_workers)
        graph.add_sink("nothing", Nothing)
        graph.connect("numbers", "nothing")
        with env.prepare(graph) as prepared:
            for _ in range(5):
                prepared.run()
            prepared.start().wait()
            own = prepared.figures()
        assert [(name, values["runs"], values["records"]) for name, values in own.items()] == [
            ("numbers", 6, 18),
            ("nothing", 6, 18),
        ]
        return env.runner.figures.runs, env.runner.figures.totals()

    for runs, totals in run_workers(2, main, executor=executor):
        assert runs == 6
        assert list(totals) == ["loop: numbers", "loop: nothing"]
        assert [(values["runs"], values["records"]) for values in totals.values()] == [(6, 18)] * 2
        assert all(values["busy_s"] > 0 for values in totals.values())


def test_plans_that_are_made_anew_or_forgotten_are_counted_on():
    def main(env):
        load = Graph("load")
        load.add_source("numbers", Numbers, env.n_workers)
        kept = load.keep("numbers", name="kept")
        env.run(load)
        turn = Graph("turn")
        turn.add_stored(kept)
        turn.add_sink("nothing", Nothing)
        turn.connect("kept", "nothing")
        with env.prepare(turn) as prepared:
            prepared.run()
            kept.layout += 1  # as if its partitions lay elsewhere
            prepared.run()
            assert prepared.figures()["nothing"]["runs"] == 2
        for _ in range(10):
            other = Graph("other")
            other.add_source("numbers", Numbers, env.n_workers)
            other.add_sink("nothing", Nothing)
            other.connect("numbers", "nothing")
            env.run(other)
        figures = env.runner.figures
        return figures.runs, {name: values["runs"] for name, values in figures.totals().items()}

    expected = {"load: numbers": 1, "load: keep kept": 1, "turn: kept": 2, "turn: nothing": 2}
    for runs, totals in run_workers(2, main):
        assert runs == 13
        assert totals == {**expected, "other: numbers": 10, "other: nothing": 10}
