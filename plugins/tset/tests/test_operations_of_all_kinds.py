"""Operations against plain lists where keys are of all kinds, results have other partitions, and sets many batches."""

from __future__ import annotations

import importlib.util
import math
import operator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2_tset.sources import BATCH_RECORDS

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
NAN = math.nan
simple = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 1.0, 2.5, NAN, math.inf])
tuples = st.tuples(st.integers(0, 2), st.none() | st.text("a"))
keys = simple | st.text("ab1", max_size=2) | st.binary(max_size=1) | tuples
odd_pairs = st.lists(st.tuples(keys, st.integers(-9, 9)), max_size=40)
sizes = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.none() | st.integers(1, 7))

STEPS = {
    "keyed_reduce": lambda s, o, p: s.keyed_reduce(operator.add, **p),
    "keyed_reduce by name": lambda s, o, p: s.keyed_reduce("max", **p),
    "keyed_aggregate": lambda s, o, p: s.keyed_aggregate(0, lambda a, v: a + v * v, operator.add, **p),
    "keyed_gather": lambda s, o, p: s.keyed_gather(**p).map_values(sorted),
    "keyed_gather ordered": lambda s, o, p: s.keyed_gather(ordered=True, **p).map_values(list),
    "keyed_gather ungrouped": lambda s, o, p: s.keyed_gather(grouped=False, **p),
    "keyed_partition": lambda s, o, p: s.keyed_partition(**p),
    "inner": lambda s, o, p: s.join(o, **p),
    "left": lambda s, o, p: s.join(o, "left", **p),
    "right": lambda s, o, p: s.join(o, "right", **p),
    "full": lambda s, o, p: s.join(o, "full", **p),
    "with itself": lambda s, o, p: s.join(s, **p),
    "co_group": lambda s, o, p: s.co_group(o, s, **p).map_values(lambda sides: tuple(map(sorted, sides))),
    "counts": lambda s, o, p: s.group_by_key(**p).count(),
    "sums": lambda s, o, p: s.group_by_key(**p).sum(),
    "least": lambda s, o, p: s.group_by(lambda pair: pair[0], **p).min(lambda pair: pair[1]),
    "reduce": lambda s, o, p: s.group_by_key(**p).reduce(max),
    "groups": lambda s, o, p: s.group_by_key(**p).map_groups(lambda key, values: (key, sum(values))),
    "count_by_value": lambda s, o, p: s.keys().count_by_value(**p),
    "distinct": lambda s, o, p: s.keys().distinct(**p).map(lambda key: (key, None)),
    "distinct by key": lambda s, o, p: s.distinct(lambda pair: pair[0], **p),
    "union": lambda s, o, p: s.union(o, **p),
}
"""Steps of pairs with keys of any kind; ``p`` are options with the number of partitions of the result."""


def canonical(pair):
    """A text for a pair: the same for all that are equal as keys."""
    key, value = pair
    number = isinstance(key, (bool, int, float))
    return repr(("nan" if key != key else float(key) + 0.0 if number else key, value))


@pytest.mark.parametrize("name", STEPS)
@LOOSE
@given(left=odd_pairs, right=odd_pairs, size=sizes)
def test_keys_of_all_kinds(everywhere, name, left, right, size):
    n, parts, others, after = size
    options = {} if after is None else {"partitions": after}

    def job(context):
        def fresh(pairs):  # NaN that is not even the same object
            return [(float("nan") if key != key else key, value) for key, value in pairs]

        one, other = context.parallelize(fresh(left), parts), context.parallelize(fresh(right), others)
        return sorted(map(canonical, STEPS[name](one, other, options).collect()))

    expected = STEPS[name](PlainSet(left), PlainSet(right), options).collect()
    assert everywhere(n, job) == sorted(map(canonical, expected))


decimals = st.floats(-4, 4).map(lambda x: round(x, 1) + 0.0)
row = st.tuples(st.sampled_from("abc"), st.integers(-5, 5), decimals).map(
    lambda values: dict(zip("knx", values, strict=True))
)
rows = st.lists(row, max_size=30)
ROWS = {
    "sort": (lambda s: s.sort("k", "n", "x", descending=[False, True, False]), True),
    "sort by function": (lambda s: s.sort(lambda row: -row["n"]).sort("k"), True),
    "where": (lambda s: s.where("n", ">", 0).where("k", "in", ["a", "b"]), True),
    "where not in": (lambda s: s.where("n", "not in", [1, 2.0]).where("k", "not in", {"a"}), True),
    "where null": (lambda s: s.where("x", "is null").union(s.where("k", "is not null")), False),
    "limit": (lambda s: s.limit(7), True),
    "limit in a union": (lambda s: s.limit(3).union(s.where("n", ">", 2)), False),
    "limit behind steps": (lambda s: s.where("n", ">", 0).select("k", "n").limit(4).sort("n", "k"), True),
    "limit grouped": (lambda s: s.sort("n", "x", "k").limit(9).group_by("k").sum("n"), False),
    "medians": (lambda s: s.group_by("k").median("x"), False),
    "select": (lambda s: s.select("x", "k"), True),
    "filter": (lambda s: s.filter(lambda row: row["n"] > 1).select("n"), True),
    "sums": (lambda s: s.group_by("k").sum("n"), False),
    "most": (lambda s: s.group_by("k", "n").max("x"), False),
    "counts": (lambda s: s.group_by("n").count(), False),
    "distinct": (lambda s: s.select("k", "n").map(lambda row: (row["k"], row["n"])).distinct(), False),
    "distinct by column": (lambda s: s.distinct("k"), False),
    "partition": (lambda s: s.partition(key="k"), False),
    "range": (lambda s: s.partition("range", key="n"), False),
    "zip_with_index": (lambda s: s.zip_with_index(), True),
    "join": (lambda s: s.key_by("k").map_values(lambda row: row["n"]).join(s.key_by("k").map_values(len)), False),
    "union": (lambda s: s.union(s.where("n", "<", 0)), False),
    "values": (lambda s: s.key_by("n").values().select("k"), True),
}
"""Steps of rows, and whether their results have an order."""


def plain(record):
    """Python's own values in the place of those of numpy and Arrow."""
    names = getattr(getattr(record, "dtype", None), "names", None)
    if names:
        return {name: record[name].item() for name in names}
    if isinstance(record, (tuple, list)):
        return type(record)(map(plain, record))
    if isinstance(record, dict):
        return {name: plain(value) for name, value in record.items()}
    return record.item() if hasattr(record, "item") else record


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("form", ["arrow", "array"])
@LOOSE
@given(data=rows, size=sizes)
def test_columns_in_all_forms(everywhere, name, form, data, size):
    import numpy
    import pyarrow

    step, ordered = ROWS[name]
    schema = pyarrow.schema({"k": pyarrow.string(), "n": pyarrow.int64(), "x": pyarrow.float64()})
    types = [("k", "U1"), ("n", "i8"), ("x", "f8")]
    if form == "arrow":
        kept = pyarrow.Table.from_pylist(data, schema=schema)
    else:
        kept = numpy.array([tuple(row.values()) for row in data], dtype=types)

    def job(context):
        return [repr(plain(record)) for record in step(context.parallelize(kept, size[1])).collect()]

    found, expected = everywhere(size[0], job), [repr(record) for record in step(PlainSet(data)).collect()]
    assert (found if ordered else sorted(found)) == (expected if ordered else sorted(expected))


MANY = 3 * BATCH_RECORDS + 17
LONG = {
    "sort": (lambda s: s.sort(lambda x: x % 1000, partitions=3), True),
    "sort descending": (lambda s: s.sort(lambda x: (x % 7, x % 11), descending=True), True),
    "zip_with_index": (lambda s: s.map(lambda x: x % 5).zip_with_index(), True),
    "zip": (lambda s: s.zip(s.filter(lambda x: x % 3)), True),
    "distinct": (lambda s: s.map(lambda x: x % 2000).distinct(), False),
    "count_by_value": (lambda s: s.map(lambda x: x % 777).count_by_value(), False),
    "keyed_gather": (lambda s: s.key_by(lambda x: x % 50).keyed_gather(ordered=True).map_values(list), False),
    "join": (lambda s: s.key_by(lambda x: x % 9000).join(s.filter(lambda x: x < 500).key_by(lambda x: x)), False),
    "partition": (lambda s: s.partition(partitions=5), False),
    "range": (lambda s: s.partition("range"), False),
    "sums": (lambda s: s.group_by(lambda x: x % 13).sum(), False),
    "map_partitions": (lambda s: s.map_partitions(lambda xs: (x for x in xs if x % 10 == 0)), True),
}
"""Steps of numbers, and whether their results have an order."""


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", LONG)
def test_sets_of_many_batches(everywhere, name, workers):
    step, ordered = LONG[name]
    data = [(number * 7919) % MANY for number in range(MANY)]
    found = everywhere(workers, lambda context: step(context.parallelize(data, 4)).collect())
    expected = step(PlainSet(data)).collect()
    assert (found if ordered else sorted(found)) == (expected if ordered else sorted(expected))


@LOOSE
@given(data=st.lists(st.integers(-50, 50), max_size=40), size=sizes, n=st.integers(0, 9), goes=st.booleans())
def test_values_by_key_and_parts(everywhere, data, size, n, goes):
    def ask(s):
        some = s.filter(lambda x: x % 5)
        values = [s.top(n, abs, largest=goes), some.top(n, largest=goes), s.sum(lambda x: x * x), some.take(n)]
        if not some.is_empty():
            values += [some.min(abs), some.max(lambda x: -x), some.first(), some.reduce(min), some.reduce("prod")]
        return values

    def job(context):
        numbers = context.parallelize(data, size[1])
        parts = numbers.gather()
        assert [x for part in parts for x in part] == data
        assert all(parts)
        assert numbers.map(lambda x: {"a": x}).collect(form="arrow").to_pylist() == [{"a": x} for x in data]
        return ask(numbers)

    assert everywhere(size[0], job) == ask(PlainSet(data))
