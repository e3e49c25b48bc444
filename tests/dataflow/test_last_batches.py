"""What a compute gives at its end comes batch by batch, no faster than it is taken."""

from __future__ import annotations

import pytest

from twister2.graph import Graph
from twister2.spec.errors import UserCodeError
from twister2.spec.tasks import END, Compute, Sink, Source
from twister2_testkit.graphs import EXECUTORS, run_workers

pytestmark = pytest.mark.timeout(120)
LAST = 3000


class Nothing(Source):
    def poll(self):
        return END


class Gives(Compute):
    def __init__(self, narrow, told, fail_at=-1):
        self.narrow, self.told, self.fail_at = narrow, told, fail_at

    def process(self, batch, emit, edge):
        emit(batch)

    def finish(self, emit):
        emit(["first"])
        return self.last()

    def last(self):
        for number in range(LAST):
            if number == self.fail_at:
                raise ValueError("enough")
            self.told["given"] = number + 1
            yield [number] * 100
            yield []


class Passes(Compute):
    narrow = True

    def process(self, batch, emit, edge):
        emit(batch)

    def finish(self, emit):
        emit(["last"])


class Takes(Sink):
    def __init__(self, told):
        self.told, self.taken, self.ahead = told, [], 0

    def write(self, batch, edge):
        self.taken += batch[:1]
        self.ahead = max(self.ahead, self.told["given"] - len(self.taken))

    def output(self):
        return self.taken, self.ahead


def run(executor, narrow, fail_at=-1):
    def job(env):
        told = {"given": 0}
        graph = Graph("last")
        graph.add_source("nothing", lambda index: Nothing(), 1)
        graph.add_compute("gives", lambda index: Gives(narrow, told, fail_at), 1, narrow=narrow)
        graph.add_compute("passes", lambda index: Passes(), 1, narrow=True)
        graph.add_sink("takes", lambda index: Takes(told), 1)
        for edge in (("nothing", "gives"), ("gives", "passes"), ("passes", "takes")):
            graph.connect(*edge, name="->".join(edge))
        return env.run(graph)["takes"]

    return run_workers(1, job, executor=executor)[0][0]


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("narrow", [False, True], ids=["alone", "fused"])
def test_last_batches_are_asked_for_when_those_before_are_taken(executor, narrow):
    taken, ahead = run(executor, narrow)
    assert taken == ["first", *range(LAST), "last"]
    assert ahead < LAST // 3


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("narrow", [False, True], ids=["alone", "fused"])
def test_an_error_in_the_middle_of_them_names_the_vertex(executor, narrow):
    with pytest.raises(UserCodeError, match=r"'gives'.*ValueError: enough"):
        run(executor, narrow, fail_at=LAST // 2)
