"""Joins of tables that are large enough for pyarrow's own, against the join of a few rows at a time."""

from __future__ import annotations

from collections import Counter

import numpy
import pyarrow as pa
import pytest

from twister2_net.operators import joining_columns
from twister2_net.operators.joining_columns import joined
from twister2_net.spilling.sorted_columns import ArrowForm


def rows_of(left, right, how, keys):
    forms = [ArrowForm(keys, "join"), ArrowForm(keys, "join")]
    tables = list(joined([left, right], forms, how, "join", in_order=False, rows=1000))
    found = Counter(repr(row) for table in tables for row in table.to_pylist())
    return found, [table.schema for table in tables]


def side(seed, n, name, *, nulls=False, kind="int64", keys=9000):
    chance = numpy.random.default_rng(seed)
    numbers = chance.integers(0, keys, n)
    column = pa.array(numbers).cast(kind)
    if kind == "float64":
        column = pa.array(numpy.where(numbers == 7, numpy.nan, numbers))
    if nulls:
        column = pa.array([None if number % 50 == 0 else number for number in column.to_pylist()], column.type)
    return pa.table({"k": column, "j": chance.integers(0, 2, n), name: range(n)})


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
@pytest.mark.parametrize("keys", [["k"], ["k", "j"]])
@pytest.mark.parametrize("options", [{}, {"nulls": True}, {"kind": "float64"}, {"kind": "string"}])
def test_the_same_rows_either_way(monkeypatch, how, keys, options):
    left, right = side(1, 12_000, "l", **options), side(2, 8_000, "r", **options)
    if keys == ["k"]:
        right = right.drop_columns(["j"])
    found, schemas = rows_of(left, right, how, keys)
    monkeypatch.setattr(joining_columns, "_WORTH", 1 << 60)
    expected, others = rows_of(left, right, how, keys)
    assert found == expected
    assert {str(schema) for schema in schemas} == {str(schema) for schema in others}


def test_very_many_partners_are_made_a_few_at_a_time():
    left = pa.table({"k": [1] * 30_000, "l": range(30_000)})
    right = pa.table({"k": [1] * 300 + [2] * 10, "r": range(310)})
    forms = [ArrowForm(["k"], "join"), ArrowForm(["k"], "join")]
    count = 0
    for table in joined([left, right], forms, "full", "join", in_order=False, rows=50_000):
        assert table.num_rows <= 53_000
        count += table.num_rows
    assert count == 30_000 * 300 + 10
