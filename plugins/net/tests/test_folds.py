"""Folds by name: what they make of values of several types."""

from __future__ import annotations

import datetime
import math

import numpy
import pytest

from twister2_net.combining.folds import fold_of


def folded(name, values):
    """What two partitions make of values."""
    fold = fold_of(name)
    states = []
    for part in (values[:1], values[1:]):
        state = fold.zero()
        for value in part:
            state = fold.add(state, value)
        states.append(state)
    return fold.result(fold.merge(*states))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 1, 2, 10], 2.5),
        ([None, 4, None], 4),
        ([], None),
        ([numpy.uint8(200), numpy.uint8(202)], 201),  # their sum is more than eight bits hold
        ([numpy.int8(-100), None, numpy.int8(-101)], -100.5),
        ([numpy.datetime64("2020-01-01T00:00:00.000000001")], numpy.datetime64("2020-01-01T00:00:00.000000001")),
        ([datetime.timedelta(1), datetime.timedelta(2)], datetime.timedelta(1.5)),
    ],
)
def test_medians(values, expected):
    assert folded("median", values) == expected


@pytest.mark.parametrize("kind", [float, numpy.float32, numpy.float64])
def test_a_median_of_nan_is_nan(kind):
    assert math.isnan(folded("median", [kind(1), kind("nan"), kind(2)]))


SMALL = [numpy.int8(100), numpy.int8(100), None, numpy.int8(100)]


@pytest.mark.parametrize("first", [[], [5]])
def test_whole_numbers_of_numpy_do_not_overflow(first):
    n, total = len(first) + 3, 300 + sum(first)
    assert folded("sum", first + SMALL) == folded("sum", SMALL + first) == total
    assert folded("mean", first + SMALL) == folded("mean", SMALL + first) == total / n


def test_variances_of_small_floats_are_made_in_64_bits():
    values = [numpy.float32(4096 + n / 8) for n in range(9)]
    assert folded("variance", values) == pytest.approx(numpy.var([float(value) for value in values]), rel=1e-12)


@pytest.mark.parametrize("kind", [float, numpy.float16, numpy.float32, numpy.float64])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_extremes_leave_nan_out(kind, where):
    values = [kind(1), kind(3)]
    values.insert(where, kind("nan"))
    assert (folded("min", values), folded("max", values)) == (1, 3)


def test_extremes_and_sums_of_durations():
    for unit in ("us", "ns"):
        none, short, long = (numpy.timedelta64(given, unit) for given in ("NaT", 2, 300))
        assert folded("min", [none, long, short]) == short
        assert folded("max", [short, none, long]) == long
        assert folded("sum", [short, long]) == short + long
