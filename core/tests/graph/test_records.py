"""Errors name the record, whatever the batch is made of."""

from __future__ import annotations

from array import array
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.graph.records import note_vertex, place_of, shorten, walking


class Lazy:
    """A lazy sequence whose iterator cannot say how far it is."""

    def __init__(self, records):
        self._records = records

    def __len__(self):
        return len(self._records)

    def __iter__(self):
        return (record for record in self._records)

    def __getitem__(self, index):
        return self._records[index]


FORMS = [list, tuple, deque, Lazy, lambda records: array("q", records)]


@pytest.mark.parametrize("form", FORMS)
@given(before=st.integers(0, 30), after=st.integers(0, 30))
def test_the_record_is_found(form, before, after):
    batch = form([1] * before + [0] + [1] * after)
    for loop in (
        lambda records: [1 // record for record in records],
        lambda records: list(map((1).__floordiv__, records)),
        lambda records: list(filter(lambda record: 1 // record, records)),
    ):
        with pytest.raises(ZeroDivisionError) as caught, walking(batch) as records:
            loop(records)
        assert place_of(caught.value).index == before
        assert place_of(caught.value).record == "0"


def test_rows_of_arrays_are_records():
    numpy = pytest.importorskip("numpy")
    with pytest.raises(ZeroDivisionError) as caught, walking(numpy.arange(6).reshape(3, 2)) as records:
        [1 // int(row[0] - 2) for row in records]
    assert place_of(caught.value).index == 1


def test_nothing_is_noted_where_nothing_was_read():
    with pytest.raises(ValueError, match="early") as caught, walking([1, 2]):
        raise ValueError("early")
    assert place_of(caught.value) is None


def test_the_first_note_stays():
    def nested():
        with walking(["a", "b"]) as outer:
            for _ in outer:
                with walking([1, 2, 3]) as inner:
                    for record in inner:
                        if record == 3:
                            raise ValueError("inner")

    with pytest.raises(ValueError, match="inner") as caught:
        nested()
    note_vertex(caught.value, "first", 10, "process")
    note_vertex(caught.value, "second", 20, "poll")
    place = place_of(caught.value)
    assert (place.index, place.record, place.vertex, place.before) == (2, "3", "first", 10)
    assert place.doing == "process"


def test_a_record_is_shown_on_one_short_line():
    class Bad:
        def __repr__(self):
            raise ValueError("no repr")

    assert shorten("a" * 1000) == "'" + "a" * 196 + "..."
    assert "\n" not in shorten({"text": "x"})
    assert "repr raised ValueError" in shorten(Bad())


def test_exceptions_that_cannot_be_noted_pass():
    class Slotted(Exception):
        __slots__ = ()

        def __setattr__(self, name, value):
            raise AttributeError(name)

    def fail(record):
        raise Slotted

    with pytest.raises(Slotted), walking([1]) as records:
        list(map(fail, records))
