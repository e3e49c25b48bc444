"""Every operation against the same on a plain list: random data, partitions and workers, on both executors."""

from __future__ import annotations

import importlib.util
import math
import operator
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

_spec = importlib.util.spec_from_file_location("tset_oracle", Path(__file__).with_name("oracle.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)
PlainSet = oracle.PlainSet

pytestmark = pytest.mark.timeout(120)
LOOSE = settings(
    max_examples=oracle.EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
numbers = st.lists(st.integers(-9, 9), max_size=30)
pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9)), max_size=30)
rows = st.lists(
    st.fixed_dictionaries(
        {"town": st.sampled_from("abc"), "n": st.none() | st.integers(-5, 5), "year": st.integers(1, 3)}
    ),
    max_size=20,
)
sizes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))

STEPS = {
    "map": lambda s, o: s.map(lambda x: x * 2),
    "flat_map": lambda s, o: s.flat_map(lambda x: [x] * (x % 3)),
    "filter": lambda s, o: s.filter(lambda x: x > 0),
    "direct": lambda s, o: s.direct().map(abs).pipe(),
    "named": lambda s, o: s.named("numbers").map(abs).named("sizes"),
    "key_by": lambda s, o: s.key_by(abs),
    "map_partitions": lambda s, o: s.map_partitions(lambda records: (x + 1 for x in records)),
    "sample all": lambda s, o: s.sample(1),
    "sample none": lambda s, o: s.sample(0),
    "sort": lambda s, o: s.sort(),
    "sort descending": lambda s, o: s.sort(abs, descending=True),
    "sort by two": lambda s, o: s.sort(lambda x: x % 2, abs),
    "sort mixed": lambda s, o: s.sort(lambda x: x % 3, abs, descending=[True, False]),
    "comparator": lambda s, o: s.sort(comparator=lambda a, b: b - a),
    "comparator of keys": lambda s, o: s.sort(abs, comparator=lambda a, b: b - a, descending=True),
    "limit": lambda s, o: s.limit(5),
    "limit of some": lambda s, o: s.map(abs).filter(lambda x: x > 2).limit(3).map(str),
    "limit sorted": lambda s, o: s.sort().limit(4).sort(descending=True).limit(2),
    "limit of all": lambda s, o: s.limit(0).union(s.limit(99)),
    "zip_with_index": lambda s, o: s.zip_with_index(),
    "zip": lambda s, o: s.zip(o),
    "zip itself": lambda s, o: s.zip(s.map(lambda x: -x)),
    "cached": lambda s, o: s.lazy_cache().map(abs).cache(),
    "persisted": lambda s, o: s.lazy_persist().map(abs).persist(),
}
"""Steps of numbers with an order, by set and another set."""

LOOSE_STEPS = {
    "distinct": lambda s, o: s.distinct(),
    "count_by_value": lambda s, o: s.count_by_value(),
    "union": lambda s, o: s.union(o, s),
    "cross": lambda s, o: s.cross(o),
    "cross with nothing": lambda s, o: s.cross(o.filter(lambda x: False)),
    "partition": lambda s, o: s.partition(partitions=3),
    "partition by function": lambda s, o: s.partition(lambda x, n: x % n),
    "partition by range": lambda s, o: s.partition("range", key=abs),
    "round robin": lambda s, o: s.partition("round_robin", partitions=2),
    "group_by count": lambda s, o: s.group_by(lambda x: x % 3).count(),
    "group_by sum": lambda s, o: s.group_by(lambda x: x % 3, lambda x: x > 0).sum(),
    "group_by min": lambda s, o: s.group_by(abs).min(),
    "group_by max": lambda s, o: s.group_by(abs).max(lambda x: -x),
    "group_by reduce": lambda s, o: s.group_by(abs).reduce(operator.add),
    "group_by gather": lambda s, o: s.group_by(abs).gather().map_values(sorted),
    "map_groups": lambda s, o: s.group_by(abs).map_groups(lambda key, values: (key, len(values), sum(values))),
}
"""Steps of numbers whose result has no order."""

PAIR_STEPS = {
    "map_values": lambda s, o: s.map_values(lambda v: v + 1),
    "flat_map_values": lambda s, o: s.flat_map_values(lambda v: range(v % 3)),
    "keys": lambda s, o: s.keys(),
    "values": lambda s, o: s.values(),
    "keyed_direct": lambda s, o: s.keyed_direct().keyed_pipe(),
    "keyed_partition": lambda s, o: s.keyed_partition(partitions=2),
    "keyed_partition by function": lambda s, o: s.keyed_partition(lambda pair, n: pair[0] % n),
    "keyed_reduce": lambda s, o: s.keyed_reduce(lambda a, b: a * b),
    "keyed_aggregate": lambda s, o: s.keyed_aggregate(0, lambda a, v: a + abs(v), operator.add),
    "keyed_aggregate lists": lambda s, o: s.keyed_aggregate([], lambda a, v: [*a, v], operator.add).map_values(sorted),
    "keyed_aggregate sets": lambda s, o: s.keyed_aggregate(set, lambda a, v: a | {v}, operator.or_),
    "keyed_gather": lambda s, o: s.keyed_gather().map_values(sorted),
    "keyed_gather ungrouped": lambda s, o: s.keyed_gather(grouped=False, order=True),
    "keyed_gather ordered": lambda s, o: s.keyed_gather(ordered=True),
    "inner": lambda s, o: s.join(o),
    "left": lambda s, o: s.join(o, "left", algorithm="sort"),
    "right": lambda s, o: s.join(o, "right"),
    "full": lambda s, o: s.join(o, "full"),
    "semi": lambda s, o: s.join(o.filter(lambda pair: pair[1] > 0), "semi"),
    "anti": lambda s, o: s.join(o.filter(lambda pair: pair[1] > 0), "anti", algorithm="sort"),
    "co_group": lambda s, o: s.co_group(o, s).map_values(lambda sides: tuple(map(sorted, sides))),
    "co_group alone": lambda s, o: s.co_group().map_values(lambda sides: sorted(sides[0])),
    "group_by_key": lambda s, o: s.group_by_key().count(),
    "sums": lambda s, o: s.group_by_key().sum(),
    "medians": lambda s, o: s.group_by_key().median(),
    "aggregate": lambda s, o: s.group_by_key().aggregate(1, lambda a, v: a * (v or 1), operator.mul),
    "distinct by key": lambda s, o: s.distinct(lambda pair: pair[0]),
}

ROW_STEPS = {
    "select": lambda s, o: s.select("year", "town"),
    "where": lambda s, o: s.where("n", ">=", 0),
    "where in": lambda s, o: s.where("town", "in", ["a", "c"]).where("n", "!=", 1),
    "where not in": lambda s, o: s.where("town", "not in", ["a", "x"]).where("n", "not in", {1, None}),
    "where null": lambda s, o: s.where("n", "is null"),
    "where there": lambda s, o: s.where("n", "is not null").where("town", "is not null"),
    "limit": lambda s, o: s.sort("town", "year").limit(4).map(lambda row: row["town"]),
    "medians": lambda s, o: s.group_by("town").median("n"),
    "medians by two": lambda s, o: s.group_by("town", "year").median("year"),
    "distinct by two": lambda s, o: s.distinct("town", "year"),
    "distinct by functions": lambda s, o: s.distinct(lambda row: row["town"], "year"),
    "key_by": lambda s, o: s.key_by("town"),
    "sort": lambda s, o: s.sort("town", "year", descending=[False, True]),
    "group_by": lambda s, o: s.group_by("town", "year").count(),
    "sums": lambda s, o: s.group_by("town").sum("year"),
    "means": lambda s, o: s.group_by("town", "year").mean("year"),
    "least": lambda s, o: s.group_by("year").min("town"),
    "by function": lambda s, o: s.group_by(lambda row: row["town"]).max("year"),
    "distinct": lambda s, o: s.map(lambda row: (row["town"], row["year"])).distinct(),
    "distinct by column": lambda s, o: s.distinct("town"),
    "distinct by columns": lambda s, o: s.distinct(["town", "year"]),
}


def run_both(everywhere, step, data, other, size, *, ordered):
    n, parts, other_parts = size

    def job(context):
        return step(context.parallelize(data, parts), context.parallelize(other, other_parts)).collect()

    found, expected = everywhere(n, job), step(PlainSet(data), PlainSet(other)).collect()
    if ordered:
        assert found == expected
    else:
        assert sorted(found, key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize("name", STEPS)
@LOOSE
@given(data=numbers, other=numbers, size=sizes)
def test_steps_that_keep_or_make_an_order(everywhere, name, data, other, size):
    run_both(everywhere, STEPS[name], data, other, size, ordered=True)


@pytest.mark.parametrize("name", LOOSE_STEPS)
@LOOSE
@given(data=numbers, other=numbers, size=sizes)
def test_steps_of_numbers(everywhere, name, data, other, size):
    run_both(everywhere, LOOSE_STEPS[name], data, other, size, ordered=False)


@pytest.mark.parametrize("name", PAIR_STEPS)
@LOOSE
@given(data=pairs, other=pairs, size=sizes)
def test_steps_of_pairs(everywhere, name, data, other, size):
    run_both(everywhere, PAIR_STEPS[name], data, other, size, ordered=False)


@pytest.mark.parametrize("name", ROW_STEPS)
@LOOSE
@given(data=rows, size=sizes)
def test_steps_of_rows(everywhere, name, data, size):
    run_both(everywhere, ROW_STEPS[name], data, data, size, ordered=name == "sort")


@pytest.mark.parametrize("form", ["list", "arrow", "array"])
@pytest.mark.parametrize("name", ROW_STEPS)
def test_columns_give_the_same_as_rows(everywhere, name, form):
    import numpy
    import pyarrow

    data = [{"town": "abc"[i % 3], "n": i % 5 - 2, "year": 1 + i % 4} for i in range(40)]
    kept = data
    if form == "arrow":
        kept = pyarrow.Table.from_pylist(data)
    elif form == "array":
        dtype = [("town", "U1"), ("n", "i8"), ("year", "i4")]
        kept = numpy.array([tuple(row.values()) for row in data], dtype=dtype)

    def plain(record):
        if isinstance(record, tuple):
            return tuple(map(plain, record))
        if getattr(getattr(record, "dtype", None), "names", None):
            return dict(zip(record.dtype.names, record.tolist(), strict=True))
        return record.item() if hasattr(record, "item") else record

    def job(context):
        found = ROW_STEPS[name](context.parallelize(kept, 3), None).collect()
        return sorted(map(repr, map(plain, found)))

    assert everywhere(2, job) == sorted(map(repr, ROW_STEPS[name](PlainSet(data), None).collect()))


@pytest.mark.parametrize("form", ["list", "arrow"])
def test_several_results_of_each_group(everywhere, form):
    import pyarrow

    data = [{"town": "abc"[i % 3], "n": i if i % 4 else None} for i in range(12)]

    def job(context):
        groups = context.parallelize(data if form == "list" else pyarrow.Table.from_pylist(data), 3).group_by("town")
        rows = groups.agg(total=("n", "sum"), rows="count", known=("n", "count")).sort("town").collect()
        pairs = context.parallelize([(1, 2), (1, 3), (2, 5)], 2).group_by_key().agg(sum=(abs, "sum"), n="count")
        return rows, sorted(pairs.collect())

    rows, pairs = everywhere(2, job)
    assert rows == [
        {"town": "a", "total": sum(x["n"] or 0 for x in data[0::3]), "rows": 4, "known": 3},
        {"town": "b", "total": sum(x["n"] or 0 for x in data[1::3]), "rows": 4, "known": 3},
        {"town": "c", "total": sum(x["n"] or 0 for x in data[2::3]), "rows": 4, "known": 3},
    ]
    assert pairs == [(1, {"sum": 5, "n": 2}), (2, {"sum": 5, "n": 1})]


@pytest.mark.parametrize("form", ["list", "arrow"])
@LOOSE
@given(
    data=st.lists(st.tuples(st.integers(0, 2), st.none() | st.sampled_from([0.5, math.nan, 1, 2])), max_size=20),
    size=sizes,
)
def test_values_of_each_group(everywhere, form, data, size):
    import pyarrow

    table = pyarrow.table({"k": [k for k, _ in data], "v": pyarrow.array([v for _, v in data], "double")})
    rows = table if form == "arrow" else table.to_pylist()

    def job(context):
        groups = context.parallelize(rows, size[1]).group_by("k", partitions=size[2])
        found = groups.agg({"v": "list"}, different=("v", "count_distinct")).collect()
        return {row["k"]: (sorted(map(repr, row["v"])), row["different"]) for row in found}

    there = {k: [repr(float(v)) for key, v in data if key == k and v is not None] for k, _ in data}
    assert everywhere(size[0], job) == {k: (sorted(values), len(set(values))) for k, values in there.items()}


def test_truth_values_and_decimals_of_each_group(everywhere):
    data = [("a", True), ("b", True), ("b", True), ("c", Decimal("0.5")), ("c", Decimal("1.5"))]

    def job(context):
        groups = context.parallelize(data, 2).group_by_key()
        return [sorted(made.collect()) for made in (groups.sum(), groups.std(), groups.variance(ddof=1))]

    sums, spread, estimated = everywhere(2, job)
    assert repr(sums) == repr([("a", 1), ("b", 2), ("c", Decimal("2.0"))])
    assert spread == [("a", 0.0), ("b", 0.0), ("c", 0.5)]
    assert estimated == [("a", None), ("b", 0.0), ("c", 0.5)]


@LOOSE
@given(data=numbers, size=sizes, n=st.integers(0, 12))
def test_actions(everywhere, data, size, n):
    def ask(s):
        empty = s.is_empty()
        return (
            s.count(),
            s.sum(),
            s.sum(abs),
            s.aggregate(0, lambda a, x: a + x * x, operator.add),
            sorted(s.aggregate([], lambda a, x: [*a, x], operator.add)),
            s.aggregate(0, operator.add),
            s.take(n),
            s.filter(lambda x: x % 2).map(abs).take(n),
            s.sort().take(n),
            s.first(default=None),
            s.top(n, lambda x: -x),
            empty,
            () if empty else (s.min(), s.max(), s.min(abs), s.max(abs), s.first(), s.reduce("max")),
        )

    def job(context):
        return ask(context.parallelize(data, size[1]))

    assert everywhere(size[0], job) == ask(PlainSet(data))


@LOOSE
@given(data=st.lists(st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6), min_size=1, max_size=40), size=sizes)
def test_moments(everywhere, data, size):
    def ask(s):
        by_key = s.key_by(lambda x: x > 0).group_by_key()
        return (
            [s.mean(), s.variance(), s.variance(ddof=1), s.std(), s.std(ddof=1)],
            sorted(by_key.mean().collect()),
            sorted(by_key.variance().collect()),
            sorted(by_key.std().collect()),
            sorted(by_key.variance(ddof=1).filter(lambda pair: pair[1] is not None).collect()),
        )

    def job(context):
        return [[repr(x) for x in part] for part in ask(context.parallelize(data, size[1]))]

    for part, plain in zip(everywhere(size[0], job), ask(PlainSet(data)), strict=True):
        for found, expected in zip(part, plain, strict=True):
            if isinstance(expected, tuple):
                expected, found = expected[1], found.rpartition(", ")[2].rstrip(")")
            value = float(found)
            assert math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-3) or (
                value != value and expected != expected
            )


@LOOSE
@given(data=numbers, size=sizes)
def test_sets_that_are_whole_on_every_worker(everywhere, data, size):
    n, parts, _ = size

    def job(context):
        numbers = context.parallelize(data, parts)
        gathered = numbers.all_gather()
        return gathered.collect(), sorted(numbers.replicate().collect()), numbers.all_reduce("sum", initial=0).collect()

    parts_of = [data[i * len(data) // parts : (i + 1) * len(data) // parts] for i in range(parts)]
    placed = [(i, x) for i, part in enumerate(parts_of) for x in part]
    assert everywhere(n, job) == (placed * n, sorted(data * n), [sum(data)] * n)


@LOOSE
@given(data=numbers, size=sizes, fraction=st.floats(0, 1), seed=st.integers())
def test_a_sample_depends_on_partitions_and_seed_only(everywhere, data, size, fraction, seed):
    def job(context):
        numbers = context.parallelize(data, size[1])
        return numbers.sample(fraction, seed).collect(), numbers.map(abs).sample(fraction, seed).collect()

    once, changed = everywhere(size[0], job)
    assert everywhere(3, job) == (once, changed)
    assert list(map(abs, once)) == changed
    assert not Counter(once) - Counter(data)


@LOOSE
@given(data=numbers, size=sizes)
def test_functions_of_whole_partitions(everywhere, data, size):
    def tell(records, collect):
        last = None
        for last in records:
            collect(last)
        collect(("last", last))

    def job(context):
        numbers = context.parallelize(data, size[1])
        return numbers.compute(lambda records: sum(records)).collect(), numbers.compute(tell, collector=True).collect()

    parts = [data[i * len(data) // size[1] : (i + 1) * len(data) // size[1]] for i in range(size[1])]
    told = [x for part in parts for x in (*part, ("last", part[-1] if part else None))]
    assert everywhere(size[0], job) == ([sum(part) for part in parts], told)


@LOOSE
@given(data=pairs, size=sizes)
def test_groups_come_in_the_order_of_a_comparator(everywhere, data, size):
    def job(context):
        keyed = context.parallelize(data, size[1])
        return keyed.keyed_gather(comparator=lambda a, b: b - a, partitions=1).map_values(sorted).collect()

    expected = sorted(((k, sorted(vs)) for k, vs in PlainSet(data).groups().items()), reverse=True)
    assert everywhere(size[0], job) == expected


@LOOSE
@given(data=pairs, size=sizes, how=st.sampled_from(["inner", "left", "right", "full"]))
def test_joins_come_in_the_order_of_a_comparator(everywhere, data, size, how):
    def job(context):
        left = context.parallelize(data, size[1])
        right = left.map(lambda pair: (pair[0] + 1, pair[1]))
        compared = left.join(right, how, algorithm="sort", comparator=lambda a, b: b - a, partitions=1)
        return compared.collect(), left.join(right, how).collect()

    compared, plain = everywhere(size[0], job)
    assert [key for key, _ in compared] == sorted((key for key, _ in plain), reverse=True)
    assert sorted(compared, key=repr) == sorted(plain, key=repr)


@pytest.mark.parametrize("columns", [False, True], ids=["rows", "batches"])
def test_partitions_by_columns_have_all_rows_of_their_keys(everywhere, columns):
    pytest.importorskip("pyarrow")
    rows = [{"town": "abc"[n % 3], "year": n % 4} for n in range(60)]

    def job(context):
        records = context.parallelize(rows, 3)
        if columns:
            records = records.with_schema({"town": str, "year": int})
        by_town = records.partition(key="town", partitions=4), records.partition(key=["town"], partitions=4)
        by_both = records.partition(key=["town", "year"], partitions=4)
        towns = [part.map_partitions(lambda part: [{row["town"] for row in part}]).collect() for part in by_town]
        return *towns, by_both.map_partitions(lambda part: [{(row["town"], row["year"]) for row in part}]).collect()

    for parts, n in zip(everywhere(2, job), (3, 3, 12), strict=True):
        assert sum(map(len, parts)) == len(set().union(*parts)) == n, "a key lies in two partitions"
