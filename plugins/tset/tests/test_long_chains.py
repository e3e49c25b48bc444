"""Sets of more steps than Python's stack has room for: they are one task, and no call is inside of all others."""

from __future__ import annotations

import pytest

from twister2_testkit.graphs import EXECUTORS
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(120)
STEPS = 1200


def program(env):
    context = TSetContext(env)
    numbers = context.parallelize(range(4), 2)
    for _ in range(STEPS):
        numbers = numbers.map(lambda number: number + 1)
    kept = context.parallelize([0, 0], 2).cache()
    with context.evaluating(numbers, into=kept) as step:
        step()
    return numbers.collect(), kept.sum(), numbers.cache().filter(lambda number: number % 2 == 0).count()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_thousand_steps(run_workers, executor):
    found = run_workers(2, program, executor=executor)
    assert found == [([STEPS, STEPS + 1, STEPS + 2, STEPS + 3], 4 * STEPS + 6, 2)] * 2
