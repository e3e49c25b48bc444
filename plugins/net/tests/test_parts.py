"""The parts of operators by themselves: trees, alignment, selectors, reducers, bounds."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import OperatorError, UserCodeError
from twister2_net.combining.reducers import combiner_for, reducer_for, ufunc_for
from twister2_net.exchange.alignment import Aligner
from twister2_net.exchange.parts import split
from twister2_net.selectors.hashing import Hash
from twister2_net.selectors.sampling import choose_bounds, thin


def marks(aligner):
    found = list(aligner.ready)
    aligner.ready.clear()
    return found


def test_barriers_close_their_inputs_until_all_have_come():
    aligner = Aligner(range(3))
    aligner.mark(1, HeaderKind.BARRIER, 9)
    assert aligner.blocked == {1}
    aligner.mark(0, HeaderKind.BARRIER, 9)
    assert marks(aligner) == []
    aligner.mark(2, HeaderKind.END, None)
    assert marks(aligner) == [(HeaderKind.BARRIER, 9)], "an input that has ended holds nothing back"
    assert aligner.blocked == set()
    aligner.mark(0, HeaderKind.END, None)
    aligner.mark(1, HeaderKind.END, None)
    assert marks(aligner) == [(HeaderKind.END, None)]
    assert aligner.ended


def test_watermarks_are_the_smallest_and_idle_inputs_do_not_hold_back():
    aligner = Aligner(range(2))
    aligner.mark(0, HeaderKind.WATERMARK, 10)
    assert marks(aligner) == []
    aligner.mark(1, HeaderKind.WATERMARK, 5)
    aligner.mark(1, HeaderKind.WATERMARK, 8)
    assert marks(aligner) == [(HeaderKind.WATERMARK, 5), (HeaderKind.WATERMARK, 8)]
    aligner.mark(1, HeaderKind.IDLE, None)
    assert marks(aligner) == [(HeaderKind.WATERMARK, 10)]
    aligner.mark(0, HeaderKind.IDLE, None)
    assert marks(aligner) == [(HeaderKind.IDLE, None)]
    aligner.active(1)
    aligner.mark(0, HeaderKind.WATERMARK, 30)
    aligner.mark(1, HeaderKind.WATERMARK, 7)
    assert marks(aligner) == [], "watermarks never go back"


def test_without_inputs_the_end_is_there_at_once():
    assert marks(Aligner(())) == [(HeaderKind.END, None)]


def test_reducers_by_name_function_and_ufunc():
    assert reducer_for("max", "x")(3, 4) == 4
    assert ufunc_for(max) is numpy.maximum
    assert ufunc_for(numpy.hypot) is numpy.hypot
    assert ufunc_for(lambda a, b: a) is None
    combine = combiner_for("min", "x")
    assert combine(numpy.array([1, 5]), numpy.array([3, 2])).tolist() == [1, 2]
    assert combine("b", "a") == "a"
    for bad in ("summ", 3, None):
        with pytest.raises(OperatorError, match="reducer"):
            reducer_for(bad, "x")


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 40])
@pytest.mark.parametrize("count", [1, 31, 32, 500])
@pytest.mark.parametrize("form", [list, numpy.array])
def test_lists_are_cut_into_the_records_themselves_in_their_order(n, count, form):
    kinds = [
        lambda number: (number, "a"),
        lambda number: [number, [number]],
        lambda number: numpy.arange(number % 3),
        lambda number: numpy.array(number),
        lambda number: numpy.float32(number),
        lambda number: {"number": number},
        lambda number: None,
        lambda number: "text",
    ]
    records = [kinds[number % len(kinds)](number) for number in range(count)]
    targets = [number * 7 % n for number in range(count)]
    found = list(split(records, form(targets), n))
    assert [target for target, _ in found] == sorted(set(targets))
    for target, part in found:
        assert type(part) is list
        wanted = [record for record, to in zip(records, targets, strict=True) if to == target]
        assert list(map(id, part)) == list(map(id, wanted))


@given(st.lists(st.lists(st.integers(0, 1000), max_size=50), max_size=4), st.integers(1, 6))
@settings(deadline=None)
def test_bounds_are_ascending_and_cut_what_there_is(parts, n):
    samples = [(len(part), thin(sorted(part), 10)) for part in parts]
    bounds = choose_bounds(samples, n)
    assert bounds == sorted(bounds)
    assert set(bounds) <= {key for _, keys in samples for key in keys}
    assert len(bounds) == (n - 1 if any(parts) else 0)
    assert all(len(keys) <= 10 for _, keys in samples)


@pytest.mark.parametrize("at", [0, 5, 9])
def test_a_stop_iteration_of_a_key_function_is_an_error_at_its_record(at):
    def key(record):
        return next(iter([])) if record == at else record

    with pytest.raises(UserCodeError) as caught:
        Hash(4, "partition 'x'", 0, key).assign(list(range(10)))
    assert caught.value.details["record"] == str(at)
