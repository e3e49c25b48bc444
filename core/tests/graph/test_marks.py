"""Marks are aligned over the inputs of a task and forwarded behind what was emitted."""

from __future__ import annotations

import attrs
import pytest

from twister2.graph.runtime.consumers import ComputeRunner, Input, SinkRunner
from twister2.graph.runtime.failure import TaskPlace
from twister2.graph.runtime.runner import Output
from twister2.spec.channel import HeaderKind, Item
from twister2.spec.tasks import Compute, Sink

PLACE = TaskPlace("task", 0, 1, 0, 1)


@attrs.define
class Scripted:
    """An operator that gives a list of items; None is a pause."""

    items: list
    credit: int = 1 << 30
    sent: list = attrs.field(factory=list)

    def receive(self, target):
        return self.items.pop(0) if self.items else None

    def send(self, source, batch):
        if not self.credit:
            return False
        self.credit -= 1
        self.sent.append(("data", batch))
        return True

    def mark(self, source, kind, value=None):
        self.sent.append((kind.name.lower(), value))

    def finish(self, source):
        self.sent.append(("end", None))


class Log(Compute):
    def __init__(self):
        self.log = []

    def process(self, batch, emit, edge):
        self.log.append(batch)
        emit(batch)

    def watermark(self, value, emit):
        self.log.append(value)
        emit([f"window {value}"])

    def snapshot(self):
        return repr(self.log).encode()


def data(*records):
    return Item(HeaderKind.DATA, 0, 0, list(records))


def mark(kind, value=None):
    return Item(HeaderKind[kind.upper()], -1, 0, value)


def play(*scripts, credit=1 << 30):
    """Run a compute over scripted inputs to a standstill: the task, what it sent, its snapshots."""
    task, out = Log(), Scripted([], credit)
    inputs = [Input(f"in{k}", Scripted(list(script)), 0) for k, script in enumerate(scripts)]
    runner = ComputeRunner(task, PLACE, inputs, [Output("out", out, 0)], None)
    for _ in range(100):
        runner.turn(3)
    return task, out, runner


def test_end_waits_for_all_inputs():
    _, out, runner = play([data(1), mark("end")], [data(2)])
    assert ("end", None) not in out.sent
    assert not runner.done
    _, out, runner = play([data(1), mark("end")], [data(2), mark("end")])
    assert out.sent == [("data", [1]), ("data", [2]), ("end", None)]
    assert runner.done


def test_a_barrier_holds_its_input_until_the_others_have_it():
    task, out, runner = play([mark("barrier", 3), data("late")], [data("early"), mark("barrier", 3), mark("end")])
    assert out.sent == [("data", ["early"]), ("barrier", 3), ("data", ["late"])]
    assert runner.snapshots == {3: b"[['early']]"}
    assert task.log == [["early"], ["late"]]


def test_an_input_that_ended_holds_back_no_barrier():
    _, out, runner = play([mark("end")], [mark("barrier", 1), mark("end")])
    assert out.sent == [("barrier", 1), ("end", None)]
    assert runner.snapshots == {1: b"[]"}
    _, out, _ = play([mark("barrier", 1), data("x")], [data("y"), mark("end")])
    assert out.sent == [("data", ["y"]), ("barrier", 1), ("data", ["x"])]


def test_the_watermark_is_the_least_of_the_inputs():
    task, out, _ = play([mark("watermark", 5), mark("watermark", 9)], [mark("watermark", 7)])
    assert [entry for entry in task.log if isinstance(entry, int)] == [5, 7]
    assert out.sent == [
        ("data", ["window 5"]),
        ("watermark", 5),
        ("data", ["window 7"]),
        ("watermark", 7),
    ]


def test_an_idle_or_ended_input_holds_back_no_watermark():
    task, _, _ = play([mark("idle")], [mark("watermark", 4)])
    assert task.log == [4]
    task, _, _ = play([mark("end")], [mark("watermark", 4)])
    assert task.log == [4]
    _, out, _ = play([mark("idle")], [mark("idle")])
    assert out.sent == [("idle", None)]


def test_a_flush_is_forwarded_once_all_have_it():
    _, out, _ = play([mark("flush", 1), data("x")], [data("y"), mark("flush", 1)])
    assert out.sent == [("data", ["y"]), ("data", ["x"]), ("flush", 1)]


def test_marks_stay_behind_what_was_refused():
    _, out, runner = play([data(1), data(2), mark("barrier", 1), mark("end")], credit=1)
    assert out.sent == [("data", [1])]
    out.credit = 5
    for _ in range(10):
        runner.turn(1)
    assert out.sent == [("data", [1]), ("data", [2]), ("barrier", 1), ("end", None)]
    assert runner.counters.blocked_s > 0


@pytest.mark.parametrize("batch", ["text", b"bytes", {"a": 1}, {1}, 5, None])
def test_what_is_no_batch_is_refused_when_it_is_emitted(batch):
    _, _, runner = play([])
    with pytest.raises(TypeError, match="a batch is a list"):
        runner.emit(batch)


def test_a_value_that_is_no_batch_can_be_received():
    class Total(Sink):
        value = None

        def write(self, batch, edge):
            self.value = batch

    task = Total()
    runner = SinkRunner(
        task, PLACE, [Input("in", Scripted([Item(HeaderKind.DATA, -1, 0, 42), mark("end")]), 0)], [], None
    )
    runner.turn(5)
    assert task.value == 42
    assert runner.counters.records == 1
    assert runner.done
