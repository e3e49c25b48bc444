"""Arrays are hashed as their elements are."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.array_hashing import can_hash, stable_hashes, tasks_of_array
from twister2.spec.hashing import stable_hash, task_of_key

_edges = [0, 1, -1, -2, 2**61 - 1, 1 - 2**61, 2**61, -(2**63), 2**63 - 1]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from(_edges)), st.integers(1, 70000))
@settings(deadline=None)
def test_signed_integers(values: list[int], n: int) -> None:
    array = numpy.array(values, "i8")
    assert stable_hashes(array).tolist() == [stable_hash(value) for value in values]
    assert tasks_of_array(array, n).tolist() == [task_of_key(value, n) for value in values]


@given(st.lists(st.floats(width=64) | st.sampled_from([-0.0, 1e308, 5e-324, math.inf, -math.inf, math.nan, -1.0])))
@settings(deadline=None)
def test_floats(values: list[float]) -> None:
    assert stable_hashes(numpy.array(values, "f8")).tolist() == [stable_hash(value) for value in values]
    narrow = (
        numpy.array(values, "f8").astype("f4") if all(abs(value) < 1e38 for value in values) else numpy.zeros(1, "f4")
    )
    assert stable_hashes(narrow).tolist() == [stable_hash(value) for value in narrow.tolist()]


@pytest.mark.parametrize("dtype", ["u1", "u4", "u8", "i1", "i2", "i4", "?", "f2"])
def test_other_numbers_and_long_arrays(dtype: str) -> None:
    array = (numpy.arange(40_000) - 7).astype(dtype)
    assert tasks_of_array(array, 7).tolist() == [task_of_key(value, 7) for value in array.tolist()]
    if dtype == "u8":
        array = numpy.array([2**64 - 1, 2**61 - 1, 2**61], "u8")
        assert stable_hashes(array).tolist() == [stable_hash(value) for value in array.tolist()]


def test_strided_and_empty_arrays() -> None:
    array = numpy.arange(100)[::3]
    assert tasks_of_array(array, 3).tolist() == [task_of_key(value, 3) for value in array.tolist()]
    assert len(tasks_of_array(array[:0], 3)) == 0


@pytest.mark.parametrize("dtype", ["U3", "O", "c16", "M8[s]"])
def test_others_are_refused(dtype: str) -> None:
    assert not can_hash(numpy.dtype(dtype))
    with pytest.raises(TypeError, match="dtype"):
        tasks_of_array(numpy.zeros(2, dtype), 2)
    with pytest.raises(TypeError, match="dtype"):
        stable_hashes(numpy.zeros(2, dtype))
