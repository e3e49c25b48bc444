"""A prepared graph that is run again: nothing of the runs before is left in it."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from twister2.graph import Graph
from twister2.spec.tasks import END, Compute, Sink, Source
from twister2_testkit.graphs import EXECUTORS, KeepRecords, run_workers


class Numbers(Source):
    def __init__(self, batches):
        self.batches = list(batches)

    def poll(self):
        return self.batches.pop() if self.batches else END


class Add(Compute):
    def __init__(self):
        self.thread = 0
        self.steps = []

    def open(self, context):
        self.steps.append(context.step)

    def process(self, batch, emit, edge):
        self.thread = threading.get_ident()
        emit([record + 1 for record in batch])


class Late(Add):
    """Gives what it got at its end, and is another class."""

    def __init__(self):
        super().__init__()
        self.held = []

    def process(self, batch, emit, edge):
        super().process(batch, self.held.append, edge)

    def finish(self, emit):
        return iter(self.held)


class Blocking(Add):
    blocking = True


class Unopened(Sink):
    """Neither opens nor closes; its abort is called all the same."""

    def __init__(self, said):
        self.said = said

    def write(self, batch, edge):
        if 13 in batch:
            raise ValueError("thirteen")

    def abort(self):
        self.said.append("abort")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_later_run_may_have_other_tasks_in_the_same_places(executor):
    kinds = [Add, Late, Add, Blocking, Add]

    def main(env):
        made, turn = [], 0
        graph = Graph("again")

        def make(index):
            made.append(kinds[turn]())
            return made[-1]

        graph.add_source("numbers", lambda index: Numbers([[turn], [10 * turn]]), 2)
        graph.add_compute("add", make, 2)
        graph.add_sink("sum", KeepRecords, 2)
        graph.connect("numbers", "add", "net.direct")
        graph.connect("add", "sum", "net.allreduce", reducer="sum")
        sums, figures = [], []
        with env.prepare(graph) as prepared:
            for turn in range(len(kinds)):  # noqa: B007 - the factories look at it
                sums += prepared.run()["sum"]
                figures.append(prepared.figures()["add"]["records"])
        here = threading.get_ident()
        elsewhere = [task.thread != here for task in made]
        steps = [task.steps for task in made]
        return sums, figures, elsewhere, steps == sorted(steps) and len({step for (step,) in steps}) == len(kinds)

    for sums, figures, elsewhere, in_order in run_workers(2, main, executor=executor):
        assert sums == [[2 * (11 * turn + 2)] for turn in range(len(kinds))]
        assert figures == [2 * (turn + 1) for turn in range(len(kinds))]
        assert elsewhere == [False, False, False, executor == "threads", False]
        assert in_order


@pytest.mark.parametrize("executor", EXECUTORS)
def test_tasks_and_what_they_hold_go_with_their_run(executor):
    def main(env):
        seen = []

        def make(index):
            task = Add()
            seen.append(weakref.ref(task))
            return task

        graph = Graph("again")
        graph.add_source("numbers", lambda index: Numbers([[1]]), 1)
        graph.add_compute("add", make, 1)
        graph.add_sink("kept", KeepRecords, 1)
        graph.connect("numbers", "add", "net.direct")
        graph.connect("add", "kept", "net.direct")
        with env.prepare(graph) as prepared:
            for _ in range(3):
                prepared.run()
                gc.collect()
                assert seen[-1]() is None
        return len(seen)

    assert run_workers(1, main, executor=executor) == [3]


def test_a_sink_that_opens_nothing_is_aborted_when_its_run_fails():
    said = []

    def main(env):
        turns = iter([[1], [13]])
        graph = Graph("again")
        graph.add_source("numbers", lambda index: Numbers([next(turns)]), 1)
        graph.add_sink("kept", lambda index: Unopened(said), 1, two_phase=False)
        graph.connect("numbers", "kept", "net.direct")
        env.run(graph)
        assert said == []
        with pytest.raises(Exception, match="thirteen"):
            env.run(graph)

    with pytest.raises(Exception, match="thirteen"):
        run_workers(1, main)
    assert said == ["abort"]
