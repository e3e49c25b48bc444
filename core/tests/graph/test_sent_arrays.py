"""Arrays that were emitted: what their maker does with them afterwards changes nothing, or is an error that says so."""

from __future__ import annotations

from itertools import pairwise

import numpy
import pytest

from twister2.graph import Graph
from twister2.graph.rewrite import RULES
from twister2.spec.errors import UserCodeError
from twister2.spec.tasks import END, Compute, Sink, Source
from twister2_testkit.graphs import EXECUTORS, run_workers


class Refills(Source):
    """Five batches in the same memory: all of it, or a view of it."""

    narrow = True

    def __init__(self, whole=False):
        self.memory, self.whole, self.turn = numpy.zeros(8), whole, 0

    def poll(self):
        self.turn += 1
        if self.turn > 5:
            return END
        self.memory[:] = self.turn
        return self.memory if self.whole else self.memory[:4]


class EmitsOften(Compute):
    """Fills its memory for each record, and emits a view of it each time."""

    narrow = True

    def __init__(self):
        self.memory = numpy.zeros(8)

    def process(self, batch, emit, edge):
        for record in batch[:2]:
            self.memory[:] = record
            emit(self.memory[:3])

    def finish(self, emit):
        self.memory[:] = -1
        emit(self.memory[:3])


class HandsOn(Compute):
    narrow = True

    def process(self, batch, emit, edge):
        emit(batch)


class Adds(Compute):
    """Writes into what it is given."""

    narrow = True

    def process(self, batch, emit, edge):
        batch += 1
        emit(batch)


class Keeps(Sink):
    narrow = True

    def __init__(self):
        self.batches = []

    def write(self, batch, edge):
        self.batches.append(batch)

    def output(self):
        return [batch.tolist() for batch in self.batches]


def run(executor, rules, operator, source, *computes):
    """What the sinks of two workers have kept, of a chain of these."""
    graph = Graph("arrays", without_rules=[rule for rule in RULES if rule not in rules])
    names = ["source", *(f"step{number}" for number in range(len(computes)))]
    graph.add_source("source", lambda _: source(), 2)
    for name, compute in zip(names[1:], computes, strict=True):
        graph.add_compute(name, lambda _, make=compute: make(), 2)
    graph.add_sink("sink", lambda _: Keeps(), 2)
    for before, after in pairwise(names):
        graph.connect(before, after)
    graph.connect(names[-1], "sink", operator)
    results = run_workers(2, lambda env: env.run(graph)["sink"], executor=executor)
    return sorted(batch for parts in results for part in parts for batch in part)


@pytest.mark.parametrize("operator", ["net.direct", "net.broadcast"])
@pytest.mark.parametrize("rules", [(), ("fuse",), tuple(RULES)], ids=["none", "fuse", "all"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_view_of_memory_that_is_filled_again(executor, rules, operator):
    times = 4 if operator == "net.broadcast" else 2
    for computes in ((), (HandsOn,), (HandsOn, HandsOn)):
        found = run(executor, rules, operator, Refills, *computes)
        assert found == [[float(turn)] * 4 for turn in range(1, 6) for _ in range(times)]
    found = run(executor, rules, operator, Refills, EmitsOften, HandsOn)
    emitted = [-1.0, *(float(turn) for turn in range(1, 6) for _ in range(2))]
    assert found == [[value] * 3 for value in emitted for _ in range(times)]


@pytest.mark.parametrize("rules", [(), tuple(RULES)], ids=["none", "all"])
@pytest.mark.parametrize(
    ("computes", "whole", "vertex", "line"),
    [((HandsOn,), True, "source", "in poll"), ((HandsOn, Adds), False, "step1", "in process")],
    ids=["source", "compute"],
)
def test_writing_into_a_sent_array_is_an_error_with_a_remedy(rules, computes, whole, vertex, line):
    with pytest.raises(UserCodeError) as caught:
        run(EXECUTORS[0], rules, "net.direct", lambda: Refills(whole), *computes)
    error = caught.value
    assert f"{vertex!r} failed" in error.what
    assert "read-only" in error.what
    assert f"vertex {vertex!r}" in error.where
    assert line in error.why
    assert "arrays that were sent on, or came from elsewhere, are read-only" in error.why
    assert "array.copy()" in error.remedy
    if vertex == "step1" and not rules:
        assert error.details["edge"] == "step0->step1"


def test_other_errors_of_values_are_told_as_they_are():
    class Raises(Compute):
        def process(self, batch, emit, edge):
            raise ValueError("the settings file is read-only")

    with pytest.raises(UserCodeError) as caught:
        run(EXECUTORS[0], (), "net.direct", Refills, Raises)
    assert "array.copy" not in str(caught.value)
