"""Chains of more computes than Python's stack has room for when each is called inside the one before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from twister2.graph.fused import FusedFactory
from twister2.spec.errors import GraphError
from twister2.spec.tasks import Compute, Emit

LENGTHS = (1, 63, 64, 65, 128, 1200)


class Twice(Compute):
    """Hands on each batch in two halves; at the end one record more, some of them by a generator."""

    narrow = True

    def __init__(self, number: int, log: list[tuple[str, int]]) -> None:
        self.number, self.log = number, log

    def process(self, batch: Any, emit: Emit, edge: str) -> None:
        self.log.append(("process", self.number))
        middle = len(batch) // 2 if self.number % 50 == 0 else 0
        for part in (batch[:middle], batch[middle:]):
            if part:
                emit(part)

    def watermark(self, value: int, emit: Emit) -> None:
        emit([("watermark", self.number, value)])

    def finish(self, emit: Emit) -> Iterator[Any] | None:
        self.log.append(("finish", self.number))
        if self.number % 100:
            return None
        if self.number % 200:
            emit([("last", self.number)])
            return None
        return iter([[("last", self.number)], [("very last", self.number)]])


def chain(length: int, log: list[tuple[str, int]]) -> Any:
    names = tuple(f"c{number}" for number in range(length))
    makes = tuple(lambda index, number=number: Twice(number, log) for number in range(length))
    return FusedFactory(names, names[1:], makes)(0)


def run(length: int) -> tuple[list[Any], list[tuple[str, int]]]:
    log: list[tuple[str, int]] = []
    task, out = chain(length, log), []
    emit = lambda batch, edge=None: out.extend(batch)  # noqa: E731
    for start in range(0, 30, 10):
        task.process(list(range(start, start + 10)), emit, "in")
    task.watermark(7, emit)
    for batch in task.finish(emit) or ():
        out.extend(batch)
    return out, log


@pytest.mark.parametrize("length", LENGTHS)
def test_records_come_in_order_and_behind_them_what_the_computes_give_last(length: int) -> None:
    out, log = run(length)
    assert out[:30] == list(range(30))
    assert out[30 : 30 + length] == [("watermark", number, 7) for number in range(length)]
    wanted = []
    for number in range(0, length, 100):
        wanted += [("last", number)] + ([] if number % 200 else [("very last", number)])
    assert out[30 + length :] == wanted
    finished = [number for what, number in log if what == "finish"]
    assert finished == list(range(length))
    when = {entry: place for place, entry in enumerate(log)}  # of the last one
    for number in range(length):
        assert when["process", number] < when["finish", number]


@pytest.mark.parametrize("length", [3, 300])
def test_an_error_names_the_compute_that_raised(length: int) -> None:
    log: list[tuple[str, int]] = []
    task = chain(length, log)
    broken = task.computes[length - 1]
    broken.process = lambda batch, emit, edge: 1 / 0
    with pytest.raises(ZeroDivisionError) as caught:
        task.process([1, 2], lambda batch, edge=None: None, "in")
    assert f"c{length - 1}" in repr(vars(caught.value)) + str(getattr(caught.value, "__notes__", ""))


def test_an_edge_that_is_not_there_is_an_error_at_the_end_of_a_link_too() -> None:
    task = chain(100, [])
    for position in (10, 63):
        task.computes[position].process = lambda batch, emit, edge: emit(batch, "elsewhere")
        with pytest.raises(GraphError, match="elsewhere"):
            task.process([1], lambda batch, edge=None: None, "in")
        task.computes[position].process = Twice.process.__get__(task.computes[position])
