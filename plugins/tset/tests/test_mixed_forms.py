"""Sets of columns and of records that meet: the error says how they fit, and so they do."""

from __future__ import annotations

import numpy
import pyarrow as pa
import pytest

from twister2.spec.errors import OperatorError
from twister2_testkit.graphs import run_workers
from twister2_tset import TSetContext

ROWS = [{"k": number % 3, "v": number} for number in range(30)]
STEPS = {
    "group_by": lambda rows: rows.group_by("k").sum("v"),
    "agg": lambda rows: rows.group_by("k").agg(total=("v", "sum")),
    "sort": lambda rows: rows.sort("v").map(lambda row: row["v"]),
    "distinct": lambda rows: rows.distinct("v").map(lambda row: row["v"]),
}


def answers(program):
    """What a program gives on one worker and on two; the same on each."""
    found = [
        repr(sorted(one, key=str)) for n in (1, 2) for one in run_workers(n, lambda env: program(TSetContext(env)))
    ]
    assert len(set(found)) == 1
    return found[0]


def union(context):
    return context.parallelize(pa.Table.from_pylist(ROWS), 2).union(context.parallelize(ROWS, 2))


@pytest.mark.parametrize("step", STEPS)
def test_rows(step):
    expected = answers(lambda context: STEPS[step](context.parallelize(ROWS * 2)).collect())
    assert answers(lambda context: STEPS[step](union(context).map(dict)).collect()) == expected
    with pytest.raises(OperatorError) as caught:
        run_workers(1, lambda env: STEPS[step](union(TSetContext(env))).collect())
    assert ".map(dict)" in caught.value.remedy


def test_numbers():
    def both(context):
        return context.parallelize(numpy.arange(5.0)).union(context.parallelize([2.5, 0.5]))

    expected = [0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0]
    found = run_workers(2, lambda env: both(TSetContext(env)).map(float).sort().collect())
    assert found == [expected, expected]
    with pytest.raises(OperatorError) as caught:
        run_workers(1, lambda env: both(TSetContext(env)).sort().collect())
    assert ".map(float)" in caught.value.remedy


@pytest.mark.parametrize("form", ["array", "table"])
@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (lambda left, right: left.join(right), [(1, (2.0, 9.0))]),
        (
            lambda left, right: left.union(right).keyed_gather().map_values(sorted),
            [(1, [2.0, 9.0]), (2, [3.0]), (3, [8.0])],
        ),
    ],
    ids=["join", "keyed_gather"],
)
def test_pairs(form, step, expected):
    array = numpy.array([(1, 2.0), (2, 3.0)], [("key", int), ("value", float)])
    columns = array if form == "array" else pa.table({"key": array["key"], "value": array["value"]})

    def sides(context):
        return context.parallelize(columns), context.parallelize([(1, 9.0), (3, 8.0)])

    def mended(env):
        left, right = sides(TSetContext(env))
        return sorted(step(left.map(lambda row: (row["key"], row["value"])), right).collect())

    assert run_workers(2, mended) == [expected, expected]
    with pytest.raises(OperatorError) as caught:
        run_workers(1, lambda env: step(*sides(TSetContext(env))).collect())
    assert '.map(lambda row: (row["key"], row["value"]))' in caught.value.remedy
