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
