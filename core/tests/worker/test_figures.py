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


@pytest.mark.timeout(60)
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
        return env.runner.figures.runs, env.runner.figures.totals()

    for runs, totals in run_workers(2, main, executor=executor):
        assert runs == 6
        assert list(totals) == ["loop: numbers", "loop: nothing"]
        assert [(values["runs"], values["records"]) for values in totals.values()] == [(6, 18)] * 2
        assert all(values["busy_s"] > 0 for values in totals.values())
