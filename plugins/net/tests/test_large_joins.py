"""Joins of tables that are large enough for pyarrow's own, against the join of a few rows at a time."""

from __future__ import annotations

from collections import Counter

import numpy
import pyarrow as pa
import pytest

from twister2_net.operators import joining_columns, joining_parts
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
@pytest.mark.parametrize("options", [{}, {"nulls": True}, {"kind": "float64"}, {"kind": "string"}, {"kind": "int16"}])
@pytest.mark.parametrize(("part", "threads"), [(1 << 20, 1), (1000, 3)])
def test_the_same_rows_either_way(monkeypatch, how, keys, options, part, threads):
    monkeypatch.setattr(joining_parts, "PART_ROWS", part)
    monkeypatch.setattr(pa, "cpu_count", lambda: threads)
    left, right = side(1, 12_000, "l", **options), side(2, 8_000, "r", **options)
    if keys == ["k"]:
        right = right.drop_columns(["j"])
    found, schemas = rows_of(left, right, how, keys)
    monkeypatch.setattr(joining_columns, "_WORTH", 1 << 60)
    expected, others = rows_of(left, right, how, keys)
    assert found == expected
    assert {str(schema) for schema in schemas} == {str(schema) for schema in others}


@pytest.mark.parametrize("kind", ["int64", "uint64", "int16", "float64", "float32"])
def test_rows_of_a_key_are_cut_into_one_part(monkeypatch, kind):
    monkeypatch.setattr(joining_parts, "PART_ROWS", 500)
    chance = numpy.random.default_rng(3)
    sides = [[pa.array((chance.integers(-900, 900, 20_000) * 4).astype(kind))] for _ in range(2)]
    parts = joining_parts.cut(*sides)
    assert len(parts) == 128
    of_key = {}
    for side in range(2):
        assert sorted(numpy.concatenate([part[side] for part in parts])) == list(range(20_000))
        for number, part in enumerate(parts):
            for key in sides[side][0].take(part[side]).to_pylist():
                assert of_key.setdefault(key, number) == number
    assert len(set(of_key.values())) == 128  # and keys that are alike are scattered


def test_text_and_few_rows_are_not_cut():
    assert joining_parts.cut([pa.array(["a"] * 300_000)], [pa.array(["a"])]) is None
    assert joining_parts.cut([pa.array([1, 2])], [pa.array([1])]) is None


def test_a_key_of_most_rows(monkeypatch):
    monkeypatch.setattr(joining_parts, "PART_ROWS", 500)
    left = pa.table({"k": [7] * 15_000 + list(range(5000)), "l": range(20_000)})
    right = pa.table({"k": [7, 8, 9, -1], "r": range(4)})
    found, _ = rows_of(left, right, "full", ["k"])
    assert sum(found.values()) == 20_001
    monkeypatch.setattr(joining_columns, "_WORTH", 1 << 60)
    assert found == rows_of(left, right, "full", ["k"])[0]


def test_very_many_partners_are_made_a_few_at_a_time():
    left = pa.table({"k": [1] * 30_000, "l": range(30_000)})
    right = pa.table({"k": [1] * 300 + [2] * 10, "r": range(310)})
    forms = [ArrowForm(["k"], "join"), ArrowForm(["k"], "join")]
    count = 0
    for table in joined([left, right], forms, "full", "join", in_order=False, rows=50_000):
        assert table.num_rows <= 53_000
        count += table.num_rows
    assert count == 30_000 * 300 + 10
