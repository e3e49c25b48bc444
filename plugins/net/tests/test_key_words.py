"""Keys as integers are ordered as the keys are."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from twister2_net.spilling.key_words import order_of, places, words_of

DTYPES = ["i1", "u1", "i8", "u8", "f4", "f8", "f2", "?", "S3", "S8", "S11", "U1", "U5", "M8[s]", "m8[ms]", ">i4", ">f8"]
fast = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def some(dtype, most=40):
    return arrays.arrays(numpy.dtype(dtype), st.integers(0, most), elements=None)


def plain(array):
    """Python values that sort as they should: what is missing last."""
    if array.dtype.kind in "mM":
        numbers = array.astype(array.dtype.newbyteorder("=")).view("i8").tolist()
        return [(1, 0) if number == -(1 << 63) else (0, number) for number in numbers]
    return [(0, value) if value == value else (1, 0) for value in array.tolist()]


def expected_order(keys, descending):
    real = [at for at in range(len(keys)) if not keys[at][0]]
    real.sort(key=lambda at: keys[at][1], reverse=descending)
    return real + [at for at in range(len(keys)) if keys[at][0]]


@fast
@given(st.data(), st.sampled_from(DTYPES), st.booleans())
def test_order_is_that_of_python(data, dtype, descending):
    column = data.draw(some(dtype))
    words = words_of(column, descending=descending)
    assert order_of(words).tolist() == expected_order(plain(column), descending)


@fast
@given(st.data(), st.lists(st.sampled_from(["i1", "S1", "S9", "f4"]), min_size=2, max_size=3))
def test_order_by_several_columns_is_stable(data, dtypes):
    n = data.draw(st.integers(0, 30))
    columns = [data.draw(arrays.arrays(numpy.dtype(dtype), n, elements=None)) for dtype in dtypes]
    descending = [data.draw(st.booleans()) for _ in dtypes]
    words = [word for one, down in zip(columns, descending, strict=True) for word in words_of(one, descending=down)]
    order = list(range(n))
    for column, down in reversed(list(zip(columns, descending, strict=True))):
        keys = [plain(column)[at] for at in order]
        order = [order[at] for at in expected_order(keys, down)]
    assert order_of(words).tolist() == order


@pytest.mark.parametrize("dtype", ["i8", "u4", "f8", "i2"])
@pytest.mark.parametrize("different", [10, 1_000, 30_000, 1 << 31])
def test_many_rows_in_any_order_stay_in_place_where_they_are_equal(dtype, different):
    chance = numpy.random.default_rng(different)
    column = (chance.integers(0, different, 40_000) % (1 << 15 if dtype == "i2" else 1 << 31)).astype(dtype)
    second = chance.integers(0, 3, len(column)).astype("i1")
    for rows in (column, numpy.sort(column), numpy.concatenate([numpy.sort(column[:25_000]), column[25_000:]])):
        assert numpy.array_equal(order_of(words_of(rows)), numpy.argsort(rows, kind="stable"))
        assert numpy.array_equal(order_of([*words_of(rows), second]), numpy.lexsort([second, rows]))


@fast
@given(st.data(), st.sampled_from(["i8", "S9", "f8", "S20"]), st.booleans())
def test_places_are_numbers_of_bounds_not_above(data, dtype, descending):
    column, bounds = data.draw(some(dtype)), data.draw(some(dtype, 5))
    bounds = bounds[order_of(words_of(bounds, descending=descending))]
    found = places(words_of(column, descending=descending), words_of(bounds, descending=descending))
    both = numpy.concatenate([column, bounds])
    order = expected_order(plain(both), descending)
    ranks = {}
    for at in order:
        ranks.setdefault(repr(plain(both)[at]).replace("-0.0", "0.0"), len(ranks))
    rank = [ranks[repr(one).replace("-0.0", "0.0")] for one in plain(both)]
    mine, theirs = rank[: len(column)], rank[len(column) :]
    assert found.tolist() == [sum(bound <= one for bound in theirs) for one in mine]


def test_rows_of_bytes_and_of_numbers():
    rows = numpy.array([[3, 1, 0], [2, 255, 9], [3, 0, 255], [2, 255, 8]], "u1")
    assert order_of(words_of(rows)).tolist() == [3, 1, 2, 0]
    assert order_of(words_of(rows.astype("i4"), descending=True)).tolist() == [0, 2, 1, 3]
    assert order_of(words_of(numpy.array([b"b\0", b"a", b"\0"], "V2"))).tolist() == [2, 1, 0]


@pytest.mark.parametrize("column", [numpy.zeros(2, "c16"), numpy.array([1, "a"], object), numpy.zeros((2, 2, 2))])
def test_what_has_no_words(column):
    assert words_of(column) is None
