"""Tasks find where all vertices of their graph lie, whatever rules have made of them."""

from __future__ import annotations

import pytest

from twister2.graph import Graph
from twister2.spec.declarations import Declarations
from twister2.spec.tasks import END, Compute, Sink, Source
from twister2_testkit.graphs import EXECUTORS, run_workers


class One(Source):
    narrow = True
    declares = Declarations(identity="one")

    def __init__(self, index):
        self.batches = [[index]]

    def poll(self):
        return self.batches.pop() if self.batches else END


class Same(Compute):
    narrow = True

    def __init__(self, index):
        pass

    def process(self, batch, emit, edge):
        emit(batch)


class Seen(Sink):
    def __init__(self, index):
        self.seen = None

    def open(self, context):
        here = {name: context.tasks_here(name) for name in context.workers}
        self.seen = context.worker_id, dict(context.workers), here
        with pytest.raises(KeyError):
            context.tasks_here("nobody")

    def write(self, batch, edge):
        pass

    def output(self):
        return self.seen


def graph(without_rules):
    made = Graph("names", without_rules=without_rules)
    for name in ("left", "right"):
        made.add_source(name, One, 3)
        made.add_compute(f"{name} same", Same)
        made.connect(name, f"{name} same")
    made.add_sink("seen", Seen, 2)
    for name in ("left", "right"):
        made.connect(f"{name} same", "seen", "net.partition")
    return made


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("without_rules", [(), ("fuse",), ("share",), ("fuse", "share")])
def test_every_vertex_is_found_by_its_name(executor, without_rules):
    def program(env):
        return env.run(graph(without_rules))["seen"]

    results = run_workers(2, program, executor=executor)
    seen = [one for outputs in results for one in outputs]
    assert len(seen) == 2
    for worker, workers, here in seen:
        assert {"left", "right", "left same", "right same", "seen"} <= set(workers)
        assert workers["left"] == workers["right same"] == (0, 1, 0)
        assert workers["seen"] == (0, 1)
        assert here["seen"] == [worker]
        assert here["right"] == ([0, 2] if worker == 0 else [1])
