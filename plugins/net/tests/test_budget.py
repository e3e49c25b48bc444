"""Many channels with little memory: all stays within the budget, and everything arrives."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pytest

import twister2_net as net
from twister2.spec.batch import n_records
from twister2.spec.channel import HeaderKind
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


def wide(form, rows=60_000):
    """One batch of about 12 MiB, three times the budget."""
    if form == "list":
        return [(number, f"{number:0150}") for number in range(rows)]
    if form == "array":
        array = np.zeros(rows, [("key", "i8"), ("value", "S192")])
        array["key"] = np.arange(rows)
        return array
    return pa.record_batch({"key": range(rows), "value": ["." * 192] * rows})


OPERATORS = {
    "direct": {}, "gather": {}, "broadcast": {"algorithm": "tree"}, "allgather": {"algorithm": "direct"},
    "partition": {"key": "key"}, "keyed_partition": {"algorithm": "chain"}, "sort": {"key": "key"},
    "keyed_gather": {"grouped": False}, "number": {},
}  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize("form", ["list", "array", "arrow"])
@pytest.mark.parametrize("name", OPERATORS)
def test_one_batch_that_is_larger_than_the_budget(name, form):
    options = dict(OPERATORS[name])
    if form == "list" and options.pop("key", ""):
        options["key"] = itemgetter(0)
    targets = {"direct": [1], "number": [1], "gather": [1]}.get(name, [0, 1])

    def main(env):
        with net.operator(env, name, sources=[0], targets=targets, **options) as op:
            most, hold = [0], env.network.under_way.hold

            def watched(size):
                hold(size)
                most.append(max(most.pop(), env.network.under_way.received))

            env.network.under_way.hold = watched
            count = 0

            def take(item):
                nonlocal count
                count += n_records(item.value)

            op.drive({source: [wide(form)] for source in op.local_sources}, take, 60.0)
        return count, most[0]

    found = LocalCluster(2, "loopback", memory_bytes=BUDGET, deadline_s=90.0).run(main)
    assert sum(count for count, _ in found) == 60_000 * (2 if name in ("broadcast", "allgather") else 1)
    assert all(most <= BUDGET // 2 for _, most in found), found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["direct", "partition", "keyed_gather", "broadcast", "keyed_reduce"])
def test_marks_stay_behind_a_batch_that_goes_in_parts(name):
    options = {"keyed_gather": {"grouped": False}, "keyed_reduce": {"reducer": max}}.get(name, {})
    rows = 20_000

    def main(env):
        seen = []
        with net.operator(env, name, sources=[0, 1], targets=[0, 1], mode="stream", **options) as op:
            for turn in range(2):
                for source in op.local_sources:
                    batch = [(f"{source} {turn} {number}", f"{number:0300}") for number in range(rows)]
                    op.put(source, batch, 60.0)
                    op.mark(source, "flush", turn)
            op.finish()
            turn = 0
            for item in op.items(60.0):
                if item.kind == HeaderKind.FLUSH:
                    turn = item.value + 1
                else:
                    seen += [(int(key.split()[1]), turn) for key, _ in item.value]
        return Counter(seen)

    found = sum(LocalCluster(2, "loopback", memory_bytes=2 * BUDGET, deadline_s=90.0).run(main), Counter())
    count = rows * 2 * (2 if name == "broadcast" else 1)
    assert found == {(turn, turn): count for turn in range(2)}
