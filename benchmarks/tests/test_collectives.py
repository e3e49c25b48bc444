from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from harness.collectives import case, measure, measure_two, right

OPERATIONS = (
    "allreduce",
    "broadcast",
    "allgather",
    "alltoall",
    "reduce",
    "scan",
    "exscan",
    "reduce_scatter",
    "scatter",
)


class One:
    """A single rank, for which every operation gives back what it takes."""

    rank, size = 0, 1

    def barrier(self) -> None:
        return

    def largest(self, value: float) -> float:
        return value


def copies(given: Any, n: int) -> Any:
    return lambda: None if given is None else given.copy()


def breaks(given: Any, n: int) -> Any:
    return lambda: given + 1


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_inputs_and_answers_of_all_ranks_belong_together(operation: str, size: int) -> None:
    inputs, wanted = zip(*(case(operation, 64, rank, size) for rank in range(size)), strict=True)
    if operation in ("alltoall", "scatter"):
        given = [part for part in inputs if part is not None]
        parts = [np.split(part, size) for part in given]
        assert all(np.array_equal(np.concatenate([of[rank] for of in parts]), want) for rank, want in enumerate(wanted))
    elif operation in ("scan", "exscan"):
        sums = np.cumsum(inputs, axis=0)
        shift = operation == "exscan"
        assert all(np.array_equal(sums[rank - shift], wanted[rank]) for rank in range(shift, size))
    elif operation in ("allreduce", "reduce"):
        assert np.array_equal(sum(inputs), wanted[0])
    elif operation == "reduce_scatter":
        assert np.array_equal(sum(inputs), np.concatenate(wanted))
    elif operation == "allgather":
        assert all(np.array_equal(np.concatenate(inputs), want) for want in wanted)
    else:
        assert all(np.array_equal(inputs[0], want) for want in wanted)


def test_a_wrong_result_is_noticed() -> None:
    answer = measure({"allreduce": copies, "barrier": copies}, One(), "small")
    assert answer["right"] is True
    assert list(answer["figures"]) == ["allreduce 8 B", "allreduce 1 KiB", "allreduce 64 KiB", "barrier"]
    assert measure({"allreduce": breaks}, One(), "small")["right"] is False
    assert measure_two({"allreduce": copies}, {"allreduce": breaks}, One(), "small")["right"] is False
    assert right("allgather", 0, [np.ones(2), np.zeros(1)], np.array([1.0, 1.0, 0.0]))


@pytest.mark.parametrize("size", [2, 3])
def test_the_ring_of_sockets_gives_right_answers(size: int) -> None:
    ring = pytest.importorskip("harness.zmq_ring")
    answers: dict[int, Any] = {}

    def run(rank: int) -> None:
        mine = ring.Ring(rank, size, lambda one, other: f"ipc://@bench-test-{id(answers)}-{one}-{other}")
        answers[rank] = measure(ring.makers(mine), mine, "small")
        mine.barrier()
        mine.close()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [answers[rank]["right"] for rank in range(size)] == [True] * size
