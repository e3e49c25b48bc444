"""Joins of rows by named columns, whatever holds the rows, against Python's own."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from twister2.spec.errors import OperatorError, Twister2Error, UsageError
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(120)
HOWS = ("inner", "left", "right", "full")


def rows(seed, n, name, town="town"):
    chance = random.Random(seed)
    return [
        {"id": chance.choice([None, *range(9)]), town: chance.choice("UJB"), "n": number, name: f"{name}{number}"}
        for number in range(n)
    ]


def expected(left, right, on, how):
    """The rows of a join: those of the left beside those of the right, keys once, under the names of the left."""
    rest = {name: f"{name}_right" if name in left[0] else name for name in right[0] if name not in on.values()}
    found = []

    def row(one, other):
        made = {name: None if one is None else one[name] for name in left[0]}
        made |= {new: None if other is None else other[old] for old, new in rest.items()}
        return made | ({a: other[b] for a, b in on.items()} if one is None else {})

    for one in left:
        partners = [other for other in right if all(one[a] == other[b] for a, b in on.items())]
        found += [row(one, other) for other in partners]
        if not partners and how in ("left", "full"):
            found.append(row(one, None))
    if how in ("right", "full"):
        found += [
            row(None, other)
            for other in right
            if not any(all(one[a] == other[b] for a, b in on.items()) for one in left)
        ]
    return found


def bag(records):
    return Counter(tuple(row.items()) for row in records)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("form", ["dicts", "table", "one of each"])
@pytest.mark.parametrize(
    ("on", "pairs"),
    [
        ("id", {"id": "id"}),
        (["id", "town"], {"id": "id", "town": "town"}),
        ({"id": "id", "town": "place"}, {"id": "id", "town": "place"}),
    ],
)
def test_rows_are_joined_as_python_joins_them(executor, form, on, pairs):
    left, right = rows(1, 40, "l"), rows(2, 30, "r", pairs.get("town", "town"))

    def main(env):
        context = TSetContext(env)
        one = context.parallelize(left if form == "dicts" else pa.Table.from_pylist(left), 3)
        other = context.parallelize(pa.Table.from_pylist(right) if form == "table" else right, 2)
        return {
            (how, algorithm): one.join(other, how, on=on, algorithm=algorithm, broadcast=broadcast).collect()
            for how in HOWS
            for algorithm, broadcast in (("hash", "auto"), ("hash", "no"), ("sort", "auto"))
        }

    for workers in (1, 2):
        for found in run_workers(workers, main, executor=executor):
            for (how, _), joined in found.items():
                assert bag(joined) == bag(expected(left, right, pairs, how)), how


def test_numbers_whose_types_differ_from_batch_to_batch():
    left = [{"k": 1, "price": 3}, {"k": 2, "price": None}] * 3 + [{"k": 1.5, "price": 3.5}, {"k": 2.0, "price": 4}]
    right = np.array([(1, 0.5), (2, 1.5)], [("k", ">i4"), ("w", "f4")])

    def main(env):
        context = TSetContext(env)
        return context.parallelize(left, 4).join(context.parallelize(right), "left", on="k").collect()

    weights = {1: 0.5, 2: 1.5}
    wanted = [(row["k"], row["price"], weights.get(row["k"])) for row in left]
    (found, _) = run_workers(2, main)
    assert Counter((row["k"], row["price"], row["w"]) for row in found) == Counter(wanted)


def test_batches_of_which_a_filter_leaves_nothing():
    left, right = rows(1, 40, "l"), rows(2, 30, "r")

    def main(env):
        context = TSetContext(env)
        one = context.parallelize(left, 4).filter(lambda row: row["n"] == 3)
        some, none = (context.parallelize(right, 3).filter(lambda row, most=most: row["n"] < most) for most in (20, 0))
        return one.join(some, "full", on="id").collect(), one.join(none, on="id").collect()

    for workers in (1, 2):
        for found, nothing in run_workers(workers, main):
            assert bag(found) == bag(expected([left[3]], right[:20], {"id": "id"}, "full"))
            assert nothing == []


def test_types_that_differ_from_batch_to_batch_in_width_only():
    """Arrow finds the type of each batch of dicts by itself."""
    left = [{"k": number % 3, "price": Decimal(10**number) / 4, "tags": [number] * (number % 2)} for number in range(8)]
    right = [{"k": 0, "rate": Decimal("0.5")}, {"k": 2, "rate": Decimal("12.25")}]
    rates = {row["k"]: row["rate"] for row in right}

    def main(env):
        context = TSetContext(env)
        return context.parallelize(left, 8).join(context.parallelize(right, 2), "left", on="k").sort("price").collect()

    for found in run_workers(2, main):
        assert found == [{**row, "rate": rates.get(row["k"])} for row in left]


def test_what_is_behind_a_join_sees_columns():
    def main(env):
        context = TSetContext(env)
        table = context.parallelize(pa.table({"v": range(1000), "k": [number % 7 for number in range(1000)]}))
        names = context.parallelize(pa.table({"k": [1, 2], "name": ["one", "two"]}))
        joined = table.join(names, on="k")
        sums = joined.group_by("name").agg(total=("v", "sum")).sort("name").collect()
        return sums, joined.explain(), joined.map_batches(lambda batch: [type(batch).__name__], form="arrow").first()

    (sums, plan, kind), _ = run_workers(2, main)
    assert sums == [{"name": name, "total": sum(range(rest, 1000, 7))} for rest, name in ((1, "one"), (2, "two"))]
    assert "inner, by hash, on k" in plan
    assert "broadcast_join" in plan
    assert kind in ("RecordBatch", "Table")


@pytest.mark.parametrize(
    ("ask", "kind", "texts"),
    [
        (lambda a, b: a.join(b, on="zz"), OperatorError, ["there is no column 'zz'", "id, "]),
        (lambda a, b: a.join(b, on=3), UsageError, ["on is 3", 'on="name"']),
        (lambda a, b: a.join(b, on=[]), UsageError, ["nothing is named"]),
        (lambda a, b: a.join(b, on={"id": 5}), UsageError, ["5 is no name"]),
        (lambda a, b: a.map(str).join(b, on="id"), OperatorError, ["has no columns", "key_by(function)"]),
        (lambda a, b: a.join(b, on={"id": "r"}), OperatorError, ["cannot compare the keys id and r", "int64"]),
        (lambda a, b: a.join(b, on="id", partitioner=max), UsageError, ["on and partitioner"]),
        (lambda a, b: a.join(b, "outer", on="id"), OperatorError, ["'outer'", "inner, left, right, full"]),
        (
            lambda a, b: a.map(lambda row: {**row, "odd": object()}).join(b, on="id"),
            OperatorError,
            ["column 'odd'", "key_by(name)"],
        ),
        (lambda a, b: a.map(lambda row: {**row, "id": [1]}).join(b, on="id"), Twister2Error, ["'id' of type list"]),
    ],
)
def test_what_is_wrong_is_said(ask, kind, texts):
    def main(env):
        context = TSetContext(env)
        ask(context.parallelize(rows(1, 9, "l")), context.parallelize(rows(2, 9, "r"))).collect()

    with pytest.raises(kind) as raised:
        run_workers(2, main)
    for text in texts:
        assert text in str(raised.value)
