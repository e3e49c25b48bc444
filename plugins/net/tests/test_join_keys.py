"""Joins of Arrow columns whose keys are of different types, against the join of pairs."""

from __future__ import annotations

import math
import random
from collections import Counter

import pyarrow as pa
import pytest

import twister2_net as net
from twister2.spec.errors import OperatorError
from twister2_testkit.fakes import LocalCluster

NAN, INF = math.nan, math.inf
SMALL = [0, 1, 2, 3, 7, -5, None]
FLOATS = [0.0, -0.0, 1.0, 1.5, 2.5, 3.0, -5.0, NAN, INF, -INF, None]
HUGE = 2**53
HOW = ["inner", "left", "right", "full", "semi", "anti"]


def in_one_form(key):
    return key if key is None or key != key or not float(key).is_integer() else int(key)


def both_joins(left, right, types, how, algorithm, memory=0):
    """The rows of the join of columns, and of that of pairs."""

    def columns(env):
        mine = slice(env.worker_id, None, env.n_workers)
        sides = [
            pa.record_batch({"k": pa.array(keys[mine], kind), name: pa.array(values[mine])})
            for (keys, values), kind, name in zip((left, right), types, ("l", "r"), strict=True)
        ]
        got = net.join(env, *sides, how, algorithm=algorithm)
        return [tuple(row.values()) for row in got], env.memory.use().spilled

    def pairs(env):
        mine = slice(env.worker_id, None, env.n_workers)
        sides = [list(zip(keys[mine], values[mine], strict=True)) for keys, values in (left, right)]
        return [(key, *(one if isinstance(one, tuple) else [one])) for key, one in net.join(env, *sides, how)]

    cluster = LocalCluster(2, "loopback", memory_bytes=memory, deadline_s=60)
    found = cluster.run(columns)
    expected = [row for part in LocalCluster(2, "loopback").run(pairs) for row in part]
    rows = [row for part, _ in found for row in part]
    normal = [[(in_one_form(key), *rest) for key, *rest in some] for some in (rows, expected)]
    return *normal, sum(spilled for _, spilled in found)


def bag(rows):
    return Counter(("nan" if key is not None and key != key else key, *rest) for key, *rest in rows)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("algorithm", ["hash", "sort"])
@pytest.mark.parametrize(
    ("left", "right", "types"),
    [
        (SMALL, FLOATS, ("int64", "float64")),
        (FLOATS, SMALL, ("float64", "int64")),
        (SMALL, [0.0, 1.0, 1.5, 2.0], ("int32", "float32")),
        ([HUGE, HUGE + 1, HUGE + 2, 5], [float(HUGE), 2.0**60, 5.0], ("int64", "float64")),
        ([float(HUGE), 2.0**63, -(2.0**63), 2.0**64, 1e300], [HUGE, HUGE + 1, 2**63 - 1], ("float64", "int64")),
        ([2**63, 2**64 - 1, 1], [2.0**63, 2.0**64, 1.0], ("uint64", "float64")),
        ([1, 2, 2**63 - 1], [2**63 - 1, 1, 5], ("int64", "uint64")),
        ([0.5, 0.25], [0.1, 0.25], ("float32", "float64")),
    ],
)
def test_keys_of_two_types_are_compared_by_value(how, algorithm, left, right, types):
    sides = [(keys * 2, [f"{name}{number}" for number in range(2 * len(keys))])
             for name, keys in (("left", left), ("right", right))]  # fmt: skip
    if (how, algorithm) == ("full", "sort") and 2**63 in map(abs, filter(None, left)):
        with pytest.raises(OperatorError, match="fit into no column"):  # sorted, both sides are in one batch
            both_joins(*sides, types, how, algorithm)
        return
    got, expected, _ = both_joins(*sides, types, how, algorithm)
    assert bag(got) == bag(expected)


@pytest.mark.parametrize("how", ["right", "full"])
def test_keys_of_two_types_when_memory_is_short(how):
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    left = [chance.choice([chance.randrange(900), HUGE + 1, None]) for _ in range(3000)]
    right = [chance.choice([chance.randrange(1800) / 2, NAN, INF, -0.0]) for _ in range(3000)]
    left = [key for index, key in enumerate(left) if key != HUGE + 1 or index < 60]
    right = [key for index, key in enumerate(right) if (key == key and key != INF) or index < 40]
    sides = [(keys, [f"{name} {'.' * 40} {number}" for number in range(len(keys))])
             for name, keys in (("left", left), ("right", right))]  # fmt: skip
    print(f"seed {seed}")
    got, expected, spilled = both_joins(*sides, ("int64", "float64"), how, "hash", memory=1 << 18)
    assert spilled
    assert bag(got) == bag(expected)


def test_keys_that_fit_into_no_column_are_named():
    def main(env):
        left = pa.record_batch({"k": pa.array([HUGE + 1, 5]), "l": ["a", "b"]})
        right = pa.record_batch({"k": pa.array([1.5]), "r": ["c"]})
        return list(net.join(env, left, right, "full", algorithm="sort"))

    with pytest.raises(OperatorError, match="neither int64 nor double"):
        LocalCluster(1).run(main)


@pytest.mark.parametrize("keys", [("function", None), (None, "function"), ("function", "k"), ("function", "function")])
@pytest.mark.parametrize("how", ["inner", "full"])
def test_a_function_as_the_key_of_one_side_alone(keys, how):
    """The other side has rows, too, by its first column where no key is given."""
    left = [{"k": k, "l": f"l{k}"} for k in (1, 2, 2, 3)]
    right = [{"k": k, "r": k / 2, "more": None} for k in (2, 3, 3, 4)]

    def main(env):
        mine = slice(env.worker_id, None, env.n_workers)
        sides = [pa.RecordBatch.from_pylist(rows[mine]) for rows in (left, right)]
        functions = [(lambda row: row["k"]) if key == "function" else key for key in keys]
        return list(net.join(env, *sides, how, left_key=functions[0], right_key=functions[1]))

    got = [row for part in LocalCluster(2, "loopback", deadline_s=20).run(main) for row in part]
    expected = [(one["k"], (one, other)) for one in left for other in right if one["k"] == other["k"]]
    if how == "full":
        expected += [(1, (left[0], None)), (4, (None, right[3]))]
    assert sorted(map(repr, got)) == sorted(map(repr, expected))


KINDS_OF_TIMES = {
    "timestamp[s]": pa.timestamp("s"),
    "timestamp[us]": pa.timestamp("us"),
    "timestamp[ns]": pa.timestamp("ns"),
    "duration[ns]": pa.duration("ns"),
    "time64[ns]": pa.time64("ns"),
}


@pytest.mark.parametrize("kind", KINDS_OF_TIMES)
@pytest.mark.parametrize("as_key", [True, False], ids=["keys", "values"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "fractions"])
def test_times_of_columns_are_grouped_by_value_or_refused_by_type(kind, as_key, whole):
    """Python has no objects for nanoseconds: where some are not whole microseconds, the error says what to do."""
    ticks = [5000, 7000, 5000] if whole else [5001, 7000, 5001]
    times = pa.array(ticks, pa.int64()).cast(KINDS_OF_TIMES[kind])
    columns = {"k": times, "v": [1, 2, 3]} if as_key else {"k": [1, 2, 1], "v": times}

    def main(env):
        batch = pa.record_batch(columns)
        mine = batch.slice(0, 2) if env.worker_id == 0 else batch.slice(2)
        return [(key, sorted(left), sorted(right)) for key, (left, right) in net.co_group(env, mine, mine)]

    cluster = LocalCluster(2, "loopback", deadline_s=20)
    if not whole and kind.endswith("[ns]"):
        with pytest.raises(OperatorError) as caught:
            cluster.run(main)
        assert kind in str(caught.value)
        assert "cast such columns first: to timestamp('us')" in caught.value.remedy
        return
    first, other = times[0].as_py(), times[1].as_py()
    expected = [(first, [1, 3]), (other, [2])] if as_key else [(1, [first, first]), (2, [other])]
    got = [row for part in cluster.run(main) for row in part]
    assert sorted(got) == sorted((key, values, values) for key, values in expected)
