"""Operators and calls of net in whole jobs, over every transport, compared with plain Python."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

HEAD = """
import random
from collections import Counter
import numpy as np
import twister2_net as net

def everything(env, mine):
    return [record for part in net.allgather(env, list(mine)) for record in part]
"""

CALLS = """
def main(env):
    me, n = env.worker_id, env.n_workers
    chance = random.Random(me)
    for size in (0, 10, 5000):
        records = [chance.randrange(1000) for _ in range(size)]
        whole = everything(env, records)
        for how in ("hash", "round_robin", "range", lambda record, n: record % n):
            for batch in (records, np.array(records, "i8")):
                got = net.partition(env, batch, how)
                assert Counter(map(int, everything(env, got))) == Counter(whole)
        assert all(record % n == me for record in net.partition(env, records, lambda record, n: record % n))
        pairs = [(record % 97, record) for record in records]
        counts = Counter()
        groups = {}
        for record in whole:
            counts[record % 97] += record
            groups.setdefault(record % 97, []).append(record)
        got = net.keyed_partition(env, pairs)
        assert Counter(everything(env, got)) == Counter((record % 97, record) for record in whole)
        places = net.allgather(env, {key for key, _ in got})
        assert sum(map(len, places)) == len(set().union(*places)), "a key is on two workers"
        sums = net.keyed_reduce(env, pairs)
        assert {key: value for part in net.allgather(env, sums) for key, value in part.items()} == dict(counts)
        gathered = everything(env, [(key, sorted(values)) for key, values in net.keyed_gather(env, pairs)])
        assert dict(gathered) == {key: sorted(values) for key, values in groups.items()}
        assert Counter(dict(everything(env, net.count_by_value(env, records).items()))) == Counter(whole)
        few, right = pairs[:50], [(key, -key) for key in range(me, 120, n)]
        left = everything(env, few)
        for how in ("inner", "left", "right", "full"):
            joined = everything(env, net.join(env, few, right, how))
            expected = [(key, (value, -key)) for key, value in left]  # every key is below 120
            if how in ("right", "full"):
                expected += [(key, (None, -key)) for key in range(120) if key not in dict(left)]
            assert Counter(joined) == Counter(expected), how
    parts = net.alltoall(env, [(me, to) for to in range(n)])
    assert parts == [(other, me) for other in range(n)]
    for dtype in ("i4", "f8", "datetime64[s]", "S10", "U4", ">i4", [("key", "S10"), ("value", "f4", 3)]):
        rows = np.zeros(n * 1000, dtype)
        got = net.alltoall(env, rows)
        assert (got == rows).all() and got.dtype == rows.dtype.newbyteorder("=")
    moved = net.alltoall(env, np.repeat(np.arange(n), 40_000) + 100 * me)
    assert (moved == np.repeat(np.arange(n) * 100, 40_000) + me).all()
    assert net.reduce_scatter(env, [me * to for to in range(n)]) == me * sum(range(n))
    assert (net.reduce_scatter(env, np.repeat(np.arange(n), 40_000)) == me * n).all()
    assert (net.reduce_scatter(env, np.full(n, 5, "timedelta64[s]")) == np.timedelta64(5 * n, "s")).all()
    print("worker", me, "all right")
"""

OPERATORS = """
def feeds_of(name, source, n, marks):
    feed = []
    for number in range(6):
        records = [(source * 7 + number * 3 + k) % 50 for k in range(200)]
        if name in ("keyed_partition", "keyed_reduce", "keyed_gather", "join"):
            feed.append([(record % 11, record) for record in records])
        elif name == "reduce_scatter":
            feed.append(records[:n])
        elif name == "alltoall":
            feed.append([records[to::n] for to in range(n)])
        else:
            feed.append(records)
        if marks and number == 2:
            feed.append(net.Mark("flush", number))
    return feed

def expected_of(name, feeds, n):
    batches = [batch for feed in feeds for batch in feed if not isinstance(batch, net.Mark)]
    if name == "reduce_scatter":
        return [[sum(batch[to] for batch in batches)] for to in range(n)]
    if name == "alltoall":
        return [[record for batch in batches for record in batch[to]] for to in range(n)]
    records = [record for batch in batches for record in batch]
    if name == "keyed_reduce":
        sums = Counter()
        for key, value in records:
            sums[key] += value
        return list(sums.items())
    if name == "keyed_gather":
        groups = {}
        for key, value in records:
            groups.setdefault(key, []).append(value)
        return [(key, tuple(sorted(values))) for key, values in groups.items()]
    if name in ("reduce", "allreduce"):
        return [sum(records)] * (1 if name == "reduce" else n)
    if name in ("broadcast", "allgather"):
        return records * n
    return records

NAMES = ("direct", "pipe", "partition", "keyed_partition", "keyed_reduce", "keyed_gather", "reduce", "allreduce",
         "reduce_scatter", "gather", "allgather", "broadcast", "union", "alltoall")

def segments(feed):
    cut = next((i for i, batch in enumerate(feed) if isinstance(batch, net.Mark)), len(feed))
    return [feed[:cut], feed[cut + 1:]]

def run(env, name, mode):
    n = env.n_workers
    workers = list(range(n))
    sources = [0] if name == "broadcast" else workers
    targets = [n - 1] if name in ("reduce", "gather") else workers
    targets = workers[:-1] if name == "union" else targets  # target k has task k of each input
    options = {"reducer": "sum"} if "reduce" in name else {}
    marks = mode == "stream"
    given = [workers[:1], workers[1:]] if name == "union" else sources
    with net.operator(env, name, sources=given, targets=targets, mode=mode, **options) as op:
        mine = {source: feeds_of(name, source, n, marks) for source in op.local_sources}
        found = op.run(mine, 60.0)
    feeds = [feeds_of(name, source, n, marks) for source in range(len(sources))]
    got = [[], []]  # in front of the mark and behind it, by target
    for target, items in found.items():
        parts = [[], []]
        seen = 0
        for item in items:
            if item.kind.name == "FLUSH":
                seen = 1
            elif item.kind.name == "DATA":
                parts[seen] += item.value
        assert seen == marks
        for number, part in enumerate(parts):
            if name == "keyed_gather":
                part = [(key, tuple(sorted(values))) for key, values in part]
            if part and name in ("reduce_scatter", "alltoall"):
                part = [(target, record) for record in part]
            got[number] += part
    for number in range(2 if marks else 1):
        cut = [segments(feed)[number] for feed in feeds] if marks else feeds
        expected = expected_of(name, cut, n)
        if name in ("reduce_scatter", "alltoall"):
            expected = [(target, record) for target, part in enumerate(expected) for record in part]
        assert Counter(everything(env, got[number])) == Counter(expected), (name, mode, number)

def main(env):
    for mode in ("batch", "stream"):
        for name in NAMES:
            run(env, name, mode)
        tasks = {"sources": [[0, 1], [2]], "targets": [1, 2], "mode": mode}
        with net.operator(env, "join", how="full", **tasks) as op:
            found = op.run({source: [[(k + (source == 2), source) for k in range(20)]] for source in op.local_sources})
        rows = [record for items in found.values() for item in items for record in item.value or ()]
        rows = everything(env, rows)
        both = [(k, (source, 2)) for k in range(1, 20) for source in (0, 1)]
        assert Counter(rows) == Counter([*both, (0, (0, None)), (0, (1, None)), (20, (None, 2))]), rows
    with net.operator(env, "direct", sources=[0, 1, 2], targets=[1, 2, 0], mode="stream") as op:
        for number in range(200):  # more than there is room for, before anything is read
            op.put(env.worker_id, np.full(1 << 15, number))
        op.finish()
        assert [int(item.value[-1]) for item in op.items()] == list(range(200))
    print("worker", env.worker_id, "all right")
"""


@pytest.mark.parametrize("source", [CALLS, OPERATORS], ids=["calls", "operators"])
def test_answers_over_every_transport(jobs: Jobs, transport: tuple[str, ...], source: str) -> None:
    done = jobs.submit(jobs.program(HEAD + source), *transport, workers=3)
    assert done.code == 0, done
    for worker in range(3):
        assert f"worker {worker} all right" in done.out
