"""Operations on whole sets as calls of worker programs, and as edges of graphs."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy
import pyarrow as pa
import pytest

import twister2_net as net
from twister2.graph import Graph
from twister2.spec.errors import OperatorError
from twister2.spec.tasks import END, Sink, Source
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.graphs import run_workers

RANKS = 3


def everywhere(function, n=RANKS, **options):
    return LocalCluster(n, "loopback", deadline_s=30.0, **options).run(function)


def test_calls_give_what_python_gives():
    def main(env):
        me = env.worker_id
        mine = [(number * 7 % 10, me) for number in range(20)]
        rows = pa.table({"k": [pair[0] for pair in mine], "v": [float(me)] * 20})
        asked = {"total": ("v", "sum"), "rows": "count"}
        return {
            "sort": list(net.sort(env, mine, lambda pair: pair[0], descending=True)),
            "sorted columns": list(net.sort(env, rows, ["k", "v"])),
            "distinct": list(net.distinct(env, iter(mine), lambda pair: pair[0])),
            "co_group": [(key, tuple(map(list, some))) for key, some in net.co_group(env, mine, mine[:3], iter([]))],
            "cross": list(net.cross(env, range(3), "ab")),
            "zip": list(net.zip(env, range(me), "xyz"[:me])),
            "number": list(net.number(env, "ab" if me else [], start=5)),
            "aggregate": net.aggregate(env, (pair[0] for pair in mine), "max"),
            "keyed": list(net.aggregate(env, mine, "count", pairs=True)),
            "columns": list(net.aggregate(env, rows, asked, key="k")),
            "folded": net.aggregate(env, mine, zero=None, add=lambda s, r: r, merge=lambda s, o: s if o is None else o),
        }

    parts = everywhere(main)
    every = [(number * 7 % 10, rank) for rank in range(RANKS) for number in range(20)]

    def of(name):
        return list(chain.from_iterable(part[name] for part in parts))

    assert of("sort") == sorted(every, key=lambda pair: pair[0], reverse=True)
    assert of("sorted columns") == [{"k": k, "v": v} for k, v in sorted(every)]
    assert sorted(of("distinct")) == [(key, 0) for key in range(10)]
    groups = dict(of("co_group"))
    assert {key: tuple(map(sorted, some)) for key, some in groups.items()} == {
        key: (sorted([0, 0, 1, 1, 2, 2]), [0, 1, 2] if key in (0, 7, 4) else [], []) for key in range(10)
    }
    assert Counter(of("cross")) == Counter((one, other) for one in range(3) for other in "ab" for _ in range(9))
    assert of("zip") == [(0, "x"), (0, "x"), (1, "y")]
    assert of("number") == [(5, "a"), (6, "b"), (7, "a"), (8, "b")]
    assert [part["aggregate"] for part in parts] == [9] * RANKS
    assert sorted(of("keyed")) == [(key, 6) for key in range(10)]
    assert sorted((row["k"], row["total"], row["rows"]) for row in of("columns")) == [(k, 6.0, 6) for k in range(10)]
    assert all(part["folded"] == (3, RANKS - 1) for part in parts)


def test_mistakes_are_told():
    for call in (
        lambda env: net.zip(env, [1] * env.worker_id, [2]),
        lambda env: net.sort(env, [1, "a"]),
        lambda env: net.sort(env, [{"a": 1}], "b"),
        lambda env: net.aggregate(env, [1], "middle"),
        lambda env: net.aggregate(env, [1]),
        lambda env: net.number(env, [1], start=1.5),
        lambda env: net.cross(env, [1], [2], broadcast="no"),
    ):
        with pytest.raises(OperatorError) as caught:
            everywhere(call, 2)
        assert caught.value.remedy


def test_sorting_a_large_array_with_little_memory():
    def main(env):
        chance = numpy.random.default_rng(env.worker_id)
        array = numpy.zeros(60_000, [("key", "S10"), ("value", "S90")])
        array["key"] = chance.integers(0, 2**60, 60_000).astype("S10")
        parts = (array[start : start + 2000].copy() for start in range(0, len(array), 2000))
        with net.operator(env, "sort", sources=[0, 1], targets=[0, 1], key="key") as op:
            found = []
            op.drive(
                {source: parts for source in op.local_sources}, lambda item: found.append(item.value["key"].copy())
            )
        return numpy.concatenate(found), env.memory.use()

    (first, use), (second, _) = everywhere(main, 2, memory_bytes=4 << 20)
    assert use.spilled
    assert use.peak <= 4 << 20
    both = numpy.concatenate([first, second])
    assert len(both) == 120_000
    assert (both[:-1] <= both[1:]).all()
    assert 0.8 < len(first) / len(second) < 1.25


class Records(Source):
    def __init__(self, records):
        self.batches = [records]

    def poll(self):
        return self.batches.pop() if self.batches else END


class Keep(Sink):
    def __init__(self):
        self.records = []

    def write(self, batch, edge):
        self.records += batch

    def output(self):
        return self.records


@pytest.mark.parametrize(
    ("operator", "inputs", "options", "expected"),
    [
        ("sort", 1, {"descending": True}, [19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("distinct", 1, {"key": lambda number: number % 3}, [0, 1, 2]),
        ("number", 1, {}, [(number, number) for number in range(20)]),
        ("aggregate", 1, {"aggregates": "sum", "key": lambda number: number % 2}, [(0, 90), (1, 100)]),
        ("zip", 2, {}, [(number, number) for number in range(20)]),
        ("cross", 2, {}, [(one, other) for one in range(20) for other in range(20)]),
        ("co_group", 3, {"key": lambda number: number}, [(number, ([number],) * 3) for number in range(20)]),
    ],
)
def test_edges_of_graphs(operator, inputs, options, expected):
    def main(env):
        graph = Graph(operator)
        names = [f"source {number}" for number in range(inputs)]
        for name in names:
            graph.add_source(name, lambda index: Records(list(range(index * 10, index * 10 + 10))), 2)
        graph.add_sink("keep", lambda index: Keep(), 2)
        graph.connect(names if inputs > 1 else names[0], "keep", f"net.{operator}", **options)
        return list(chain.from_iterable(env.run(graph)["keep"]))

    parts = run_workers(2, main)
    found = list(chain.from_iterable(parts))
    assert (found if operator == "sort" else sorted(found)) == expected
