"""Joins of rows by named columns, whatever holds the rows, against Python's own."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from twister2.graph.rewrite import RULES
from twister2.spec.errors import OperatorError, Twister2Error, UsageError
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(120)
LEFT_ALONE = ("semi", "anti")
HOWS = ("inner", "left", "right", "full", *LEFT_ALONE)


def rows(seed, n, name, town="town"):
    chance = random.Random(seed)
    return [
        {"id": chance.choice([None, *range(9)]), town: chance.choice("UJB"), "n": number, name: f"{name}{number}"}
        for number in range(n)
    ]


def expected(left, right, on, how):
    """The rows of a join: those of the left beside those of the right, keys once, under the names of the left."""
    if how in LEFT_ALONE:
        with_one = [one for one in left if any(all(one[a] == other[b] for a, b in on.items()) for other in right)]
        return with_one if how == "semi" else [one for one in left if one not in with_one]
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


@pytest.mark.parametrize("algorithm", ["hash", "sort"])
def test_a_side_of_which_nothing_is_known_has_its_keys(algorithm):
    rows = [{"id": number * 7 % 5, "n": number} for number in range(5)]

    def main(env):
        context = TSetContext(env)
        some, none = context.parallelize(rows, 2), context.parallelize([])
        found = {
            how: none.join(some, how, on={"who": "id"}, algorithm=algorithm, broadcast="no", partitions=1).collect()
            for how in HOWS
        }
        turned = {
            how: some.join(none, how, on={"id": "who"}, algorithm=algorithm, broadcast="no", partitions=1).collect()
            for how in HOWS
        }
        return found, turned

    whole = [{"who": row["id"], "n": row["n"]} for row in rows]
    for n in (1, 2):
        for found, turned in run_workers(n, main):
            for how, joined in found.items():
                assert bag(joined) == bag(whole if how in ("right", "full") else []), how
            for how, joined in turned.items():
                assert bag(joined) == bag(rows if how in ("left", "full", "anti") else []), how
            if algorithm == "sort":
                assert [row["who"] for row in found["full"]] == [row["id"] for row in turned["anti"]] == [0, 1, 2, 3, 4]


NO_ROWS = {
    "table": lambda context: context.parallelize(pa.table({"id": pa.array([], "int64"), "name": pa.array([], "str")})),
    "where": lambda context: context.parallelize(pa.table({"id": [1], "name": ["x"]})).where("id", ">", 9),
    "select": lambda context: (
        context.parallelize(pa.table({"name": ["x"], "rest": [0], "id": [1]})).where("id", ">", 9).select("id", "name")
    ),
    "with_schema": lambda context: context.parallelize([]).with_schema({"id": int, "name": str}),
    "dicts": lambda context: (
        context.parallelize([{"id": 1, "name": "x"}])
        .filter(lambda row: row["id"] > 9)
        .with_schema({"id": int, "name": str})
    ),
    "kept": lambda context: context.parallelize([]).with_schema({"id": int, "name": str}).cache(),
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("none", NO_ROWS)
def test_a_side_without_rows_has_its_columns_all_the_same(how, none):
    some = [{"id": number, "town": "UJB"[number % 3]} for number in range(9)]

    def main(env):
        context = TSetContext(env)
        empty = NO_ROWS[none](context)
        found = []
        for form in (some, pa.Table.from_pylist(some)):
            for broadcast in ("auto", "no"):
                full = context.parallelize(form, 3)
                found.append(full.join(empty, how, on="id", broadcast=broadcast).collect())
                found.append(empty.join(full, how, on="id", broadcast=broadcast).collect())
        kept = context.parallelize(some).join(empty, how, on="id")
        names = [] if how in LEFT_ALONE else kept.group_by("name").agg(rows="count").collect()
        return found[::2], found[1::2], names

    right_empty = [{**row, "name": None} for row in some] if how in ("left", "full") else some * (how == "anti")
    left_empty = [{"id": row["id"], "name": None, "town": row["town"]} for row in some]
    left_empty = left_empty if how in ("right", "full") else []
    for workers in (1, 2):
        for rights, lefts, names in run_workers(workers, main):
            for found in rights:
                assert bag(found) == bag(right_empty)
            for found in lefts:
                assert bag(found) == bag(left_empty)
            assert names == ([{"name": None, "rows": len(some)}] if how in ("left", "full") else [])


OF_FILES = {
    "parquet": lambda context, folder: context.read_parquet(f"{folder}/*.parquet"),
    "csv": lambda context, folder: context.read_csv(f"{folder}/*.csv").partition(),
    "kept": lambda context, folder: context.read_parquet(f"{folder}/*.parquet").where("id", ">", 9).cache(),
    "joined": lambda context, folder: context.read_parquet(f"{folder}/*.parquet").join(
        context.parallelize(pa.table({"id": [77]})), on="id"
    ),
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("none", OF_FILES)
@pytest.mark.parametrize("without", [(), tuple(RULES)], ids=["all rules", "no rule"])
def test_files_have_columns_although_no_row_of_them_is_wanted(how, none, without, tmp_path):
    some = [{"id": number, "town": "UJB"[number % 3]} for number in range(9)]
    rows = pa.table({"name": ["x", "y"], "rest": [0, 1], "id": [1, 2]})
    pa.parquet.write_table(rows, tmp_path / "a.parquet")
    pa.csv.write_csv(rows, tmp_path / "a.csv")

    def main(env):
        context = TSetContext(env, without_rules=without)
        empty = OF_FILES[none](context, tmp_path).where("id", ">", 9).select("id", "name")
        full = context.parallelize(some, 3)
        sides = {"right": (full, empty), "left": (empty, full)}
        return {
            (name, broadcast): one.join(other, how, on="id", broadcast=broadcast).collect()
            for name, (one, other) in sides.items()
            for broadcast in ("auto", "no")
        }

    right_empty = [{**row, "name": None} for row in some] if how in ("left", "full") else some * (how == "anti")
    left_empty = [{"id": row["id"], "name": None, "town": row["town"]} for row in some]
    for workers in (1, 2):
        for found in run_workers(workers, main):
            for (name, _), joined in found.items():
                if name == "right":
                    assert bag(joined) == bag(right_empty)
                else:
                    assert bag(joined) == bag(left_empty if how in ("right", "full") else [])


@pytest.mark.parametrize("algorithm", ["hash", "sort"])
@pytest.mark.parametrize("how", HOWS)
def test_rows_may_lack_columns_and_have_them_in_any_order(how, algorithm):
    chance = random.Random(5)
    left = []
    for number in range(60):
        row = [("id", chance.randrange(14)), ("n", number)]
        if number % 7 == 3:
            row.append(("note", f"note{number}"))
        if number % 5 == 1:
            row.append(("price", number / 4 if number % 2 else number))
        chance.shuffle(row)
        left.append(dict(row))
    right = [{"r": number, "id": number} if number % 2 else {"id": number, "s": str(number)} for number in range(12)]

    def main(env):
        context = TSetContext(env)
        one, other = context.parallelize(left, 12), context.parallelize(right, 5)
        joined = one.join(other, how, on="id", algorithm=algorithm, broadcast="no")
        return joined.collect(), joined.collect(form="arrow").num_rows

    names = ("id", "n", "note", "price", "r", "s")
    sides = ([{name: row.get(name) for name in some} for row in side] for some, side in
             ((names[:4], left), (("id", "r", "s"), right)))  # fmt: skip
    joined = expected(*sides, {"id": "id"}, how)
    names = names[:4] if how in LEFT_ALONE else names
    wanted = Counter(tuple(row[name] for name in names) for row in joined)
    for workers in (1, 2, 3):
        for found, count in run_workers(workers, main):
            assert Counter(tuple(row[name] for name in names) for row in found) == wanted
            assert count == len(found)
            assert len({tuple(row) for row in found}) == 1, "rows have their columns in one order"


def test_keys_must_be_in_every_row_however_rows_lie_in_batches():
    def main(env, partitions):
        context = TSetContext(env)
        one = context.parallelize([{"id": 1}, {"n": 2}], partitions)
        one.join(context.parallelize([{"id": 1}]), on="id").collect()

    for partitions in (1, 2):
        with pytest.raises(OperatorError, match=r"(?s)there is no column 'id'.*the columns are: n"):
            run_workers(2, lambda env, partitions=partitions: main(env, partitions))


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
        (lambda a, b: a.join(b, "outer", on="id"), UsageError, ["'outer'", "inner, left, right, full"]),
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
