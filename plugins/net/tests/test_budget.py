"""Many channels with little memory: all stays within the budget, and everything arrives."""

from __future__ import annotations

from collections import Counter

import pytest

import twister2_net as net
from twister2_testkit.fakes import LocalCluster

BUDGET = 4 << 20
N = 5


def pairs(source):
    """About 7 MiB per source in messages, in batches of 500."""
    for start in range(0, 12_000, 500):
        yield [
            (f"key {(number * 7919) % 3000}", f"{source} {number} {'.' * 500}") for number in range(start, start + 500)
        ]


def uses(operator, **options):
    """100 channels from two tasks on every worker to two on every worker: of each worker the records by key, the peak
    of memory, the most that was under way, and what is held at the end.
    """

    def main(env):
        tasks = [worker for worker in range(N) for _ in range(2)]
        found = Counter()
        under_way, most = env.network.under_way, [0]
        sent = under_way.sent

        def watched(size):
            sent(size)
            most.append(max(most.pop(), under_way._sent))

        under_way.sent = watched
        with net.operator(env, operator, sources=tasks, targets=tasks, **options) as op:
            for items in op.run({source: pairs(source) for source in op.local_sources}, 60.0).values():
                for item in items:
                    found.update(key for key, _ in item.value or ())
            peak = env.memory.use().peak
        return found, peak, most[0], env.memory.use().reserved

    return LocalCluster(N, "loopback", memory_bytes=BUDGET, deadline_s=90.0).run(main)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("operator", "options", "times"),
    [("keyed_partition", {}, 40), ("keyed_reduce", {"reducer": max}, 1), ("keyed_gather", {"grouped": False}, 40)],
)
def test_many_channels_with_little_memory(operator, options, times):
    found, peaks, under_way, ends = zip(*uses(operator, **options), strict=True)
    total = sum(found, Counter())
    assert len(total) == 3000
    assert set(total.values()) == {times}
    assert all(0 < peak <= BUDGET for peak in peaks)
    assert all(0 < most <= BUDGET // 2 for most in under_way), under_way
    assert not any(ends)
