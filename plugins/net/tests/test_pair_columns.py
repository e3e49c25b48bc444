"""Columns of numbers are combined by key as pairs of Python numbers are."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twister2_net as net
from twister2_net.combining.pair_columns import combined
from twister2_net.combining.reducers import reducer_for, ufunc_for
from twister2_testkit.fakes import LocalCluster

pyarrow = pytest.importorskip("pyarrow")


def one_by_one(keys, values, name):
    reducer, table = reducer_for(name, "x"), {}
    for key, value in zip(keys, values, strict=True):
        table[key] = reducer(table[key], value) if key in table else value
    return table


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1)), min_size=64, max_size=120))
@settings(deadline=None, max_examples=40)
def test_integers_are_exact(pairs):
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    batch = pyarrow.RecordBatch.from_arrays([pyarrow.array(keys), pyarrow.array(values, pyarrow.int64())], ["k", "v"])
    for name in ("sum", "min", "max", "prod", "band"):
        found = combined(batch, ufunc_for(name), name)
        if found is not None:
            assert dict(found) == one_by_one(keys, values, name)
    small = [value % 1000 for value in values]
    table = numpy.array(list(zip(keys, small, strict=True)), [("k", "i8"), ("v", "i2")])
    found = combined(table, ufunc_for("sum"), "sum")
    assert found is not None
    assert dict(found) == one_by_one(keys, small, "sum")


def test_what_is_left_to_python():
    for batch in ([(1, 2)] * 100, numpy.ones((100, 3)), numpy.ones((10, 2)), numpy.array([["a", "b"]] * 100)):
        assert combined(batch, numpy.add, "sum") is None
    nulls = pyarrow.RecordBatch.from_pydict({"k": [1] * 100, "v": [None] * 100})
    assert combined(nulls, numpy.add, "sum") is None
    huge = numpy.full((100, 2), 2**62)
    assert combined(huge, numpy.add, "sum") is None


def test_through_the_operators():
    def main(env):
        keys = [number % 7 for number in range(300)]
        batch = pyarrow.RecordBatch.from_pydict({"k": keys, "v": [0.5] * 300})
        sums = net.keyed_reduce(env, batch)
        same = net.keyed_reduce(env, numpy.array([keys, [0.5] * 300]).T.copy())
        words = pyarrow.RecordBatch.from_pydict({"w": [f"w{key}" for key in keys] + [None]})
        return sums, same, net.count_by_value(env, words)

    results = LocalCluster(2, "loopback", deadline_s=20.0).run(main)
    whole = [{key: value for result in results for key, value in result[at].items()} for at in range(3)]
    counts = {key: len(range(key, 300, 7)) for key in range(7)}
    assert whole[0] == whole[1] == {key: float(count) for key, count in counts.items()}
    assert whole[2] == {f"w{key}": 2 * count for key, count in counts.items()} | {None: 2}


@pytest.mark.parametrize("n", [1, 2, 3])
def test_arrays_and_lists_of_pairs_together(n):
    pairs = [(number % 4, number) for number in range(12)]

    def job(env):
        mine = pairs[env.worker_id :: n]
        fields = numpy.array(mine, [("key", int), ("value", int)])
        left = [mine, fields, numpy.array(mine)][env.worker_id % 3]
        right = fields if env.worker_id % 2 == 0 else mine
        groups = [(key, sorted(values)) for key, values in net.keyed_gather(env, left)]
        return groups, net.join(env, left, right)

    found = LocalCluster(n).run(job)
    assert sorted(group for groups, _ in found for group in groups) == [(k, list(range(k, 12, 4))) for k in range(4)]
    joined = [(k, (one, other)) for k, one in pairs for j, other in pairs if k == j]
    assert sorted(pair for _, some in found for pair in some) == sorted(joined)
