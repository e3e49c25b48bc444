"""The measuring program: answers it expects, how it shares time, what it finds wrong."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.collectives import OPERATIONS, Call
from twister2_bench import program
from twister2_testkit.fakes import LocalCluster

N_WORKERS = 3


def cell_of(env: Any, operation: str, nbytes: int) -> program.Cell:
    return program.Cell(operation, nbytes, env.worker_id, N_WORKERS, numpy.empty)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_cell_knows_the_right_answer(operation: str) -> None:
    def run(env: Any) -> list[bool]:
        group, seen = env.network.collectives(), []
        for nbytes in (8, 80, 4096):
            cell = cell_of(env, operation, nbytes)
            cell.reset()
            group.run(cell.call, cell.send, cell.receive)
            seen.append(cell.right())
        return seen

    assert LocalCluster(N_WORKERS).run(run) == [[True] * 3] * N_WORKERS


@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - {"barrier"}))
def test_a_cell_notices_a_wrong_answer(operation: str) -> None:
    noticed = []
    for rank in range(N_WORKERS):
        cell = program.Cell(operation, 4096, rank, N_WORKERS, numpy.empty)
        cell.reset()
        noticed.append(not cell.right())  # no call was made
    assert any(noticed)


def test_a_broken_collective_is_not_right() -> None:
    order = {"sizes": [64], "operations": ["allreduce"], "seconds": 0.1, "shared": False}

    def run(env: Any) -> list[dict[str, Any]]:
        group = env.network.collectives()
        real = group.run

        def broken(call: Call, send: Any = None, receive: Any = None) -> None:
            real(call, send, receive)
            if call.op == "sum" and receive is not None and env.worker_id == 1:
                receive[-1] += 1

        group.run = broken
        return list(program.collectives(env, order, program.Budget(0.1, 1)))

    (row,) = LocalCluster(N_WORKERS).run(run)[0]
    assert row["right"] is False


@given(
    costs=st.lists(st.floats(1e-6, 0.5), min_size=1, max_size=30),
    budget=st.floats(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_batches_stop_at_the_bounds(costs: list[float], budget: float) -> None:
    done, spent = 0, 0.0
    for turn in range(10_000):
        batch = program.next_batch(done, spent, budget)
        if not batch:
            break
        done, spent = done + batch, spent + batch * costs[turn % len(costs)]
    assert program.FEWEST_CALLS <= done <= program.MOST_CALLS
    assert done == program.MOST_CALLS or spent + spent / done > budget


def test_time_is_shared_equally_and_every_cell_has_some() -> None:
    budget = program.Budget(10.0, 4)
    assert budget.take() == pytest.approx(2.5, rel=0.05)
    late = program.Budget(0.0, 4)
    assert [late.take() for _ in range(6)] == [0.0] * 6


def test_pairs() -> None:
    assert program.every_pair(2) == []
    assert program.every_pair(3) == [(0, 1), (0, 2), (1, 2)]
    assert len(program.every_pair(100)) == 99
    facts = [
        {"host": host, "routes": {other: "shm" if host == there else "tcp" for other, there in enumerate("aabb")}}
        for host in "aabb"
    ]
    assert program.kinds_of(facts) == [(0, 1), (0, 2)]
