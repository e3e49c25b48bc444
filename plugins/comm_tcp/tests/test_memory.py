"""Memory of parts that came in: used again when nobody has a view of it, and never before."""

from __future__ import annotations

import queue
import random
import threading
import tracemalloc

import numpy
import pytest

from twister2_comm_tcp.memory import Memory

pytestmark = [pytest.mark.timeout(60)]
SIZE = 1 << 20


def place(view: memoryview) -> int:
    return int(numpy.frombuffer(view, numpy.uint8).ctypes.data)


def test_what_was_dropped_is_used_again() -> None:
    memory = Memory()
    part = memory.take(SIZE)
    first = place(part)
    del part
    again = memory.take(SIZE - 1000)
    assert len(again) == SIZE - 1000
    assert place(again) == first
    assert place(memory.take(SIZE)) != first


@pytest.mark.parametrize(
    "view_of",
    [
        lambda part: part,
        lambda part: part[100:200],
        lambda part: part[100:200].toreadonly(),
        lambda part: numpy.frombuffer(part, numpy.uint8),
        lambda part: numpy.frombuffer(part[64:], numpy.float64).reshape(2, -1)[1, 5:10],
        lambda part: numpy.asarray(part.obj)[100:200].view(numpy.uint16),
        lambda part: [part.cast("d")[3:4]],
    ],
    ids=["itself", "slice", "read-only", "array", "slice of an array", "of its owner", "cast"],
)
def test_whoever_has_a_view_keeps_it(view_of) -> None:
    memory = Memory()
    part = memory.take(SIZE + 64)
    first = place(part)
    view = view_of(part)
    del part
    others = [memory.take(SIZE + 64) for _ in range(3)]
    assert first not in map(place, others)
    del view
    assert place(memory.take(SIZE + 64)) == first


@pytest.mark.parametrize("seed", range(5))
def test_nothing_that_is_in_view_changes(seed: int) -> None:
    print("seed", seed)
    luck, memory = random.Random(seed), Memory()
    held: list[tuple[int, numpy.ndarray]] = []
    for number in range(2000):
        size = luck.choice((1, 5000, 32 << 10, 40_000, 65_536, 65_537, 1 << 20, (4 << 20) + 1))
        part = memory.take(size)
        assert len(part) == size
        value = number % 251
        numpy.frombuffer(part, numpy.uint8)[:] = value
        held.append((value, numpy.frombuffer(part.toreadonly()[size // 2 :], numpy.uint8)))
        del part
        while len(held) > luck.randrange(12):
            value, array = held.pop(luck.randrange(len(held)))
            assert (array == value).all()
            del array


def test_what_is_kept_has_a_bound_however_much_is_dropped_at_once() -> None:
    memory = Memory()
    tracemalloc.start()
    try:
        for size in (64 << 10, 1 << 20, 8 << 20):
            parts = [memory.take(size) for _ in range(40)]
            assert tracemalloc.get_traced_memory()[0] >= 40 * size
            del parts
        assert tracemalloc.get_traced_memory()[0] < 12 << 20
    finally:
        tracemalloc.stop()


def test_parts_may_be_dropped_by_another_thread() -> None:
    memory = Memory()
    given: queue.SimpleQueue[tuple[int, numpy.ndarray] | None] = queue.SimpleQueue()
    wrong: list[int] = []

    def drop() -> None:
        while (part := given.get()) is not None:
            value, array = part
            if not (array == value).all():
                wrong.append(value)

    thread = threading.Thread(target=drop)
    thread.start()
    try:
        for number in range(1000):
            array = numpy.frombuffer(memory.take(40_000), numpy.uint8)
            array[:] = number % 251
            given.put((number % 251, array))
            del array
    finally:
        given.put(None)
        thread.join(60)
    assert not thread.is_alive()
    assert not wrong
