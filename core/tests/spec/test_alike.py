"""Values as text: the same where they are the same, in every process."""

from __future__ import annotations

import functools
import subprocess
import sys

import attrs
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.alike import Texts

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(PLAIN, PLAIN)
def test_plain_values_are_the_same_text_exactly_when_they_look_the_same(one, other):
    of = Texts().of
    assert (of(one) == of(other)) == (_ordered(one) == _ordered(other))


def _ordered(value):
    if isinstance(value, dict):
        return f"{{{sorted((repr(key), _ordered(one)) for key, one in value.items())}}}"
    return f"[{[_ordered(one) for one in value]}]" if isinstance(value, list) else repr(value)


@attrs.define
class Chooser:
    seed: int = 0

    def next(self):
        return self.seed


def test_objects_count_by_their_fields_or_by_their_type():
    assert Texts().of(Chooser(1)) != Texts().of(Chooser(2))
    by_type = Texts(lambda value: hasattr(value, "next"))
    assert by_type.of(Chooser(1)) == by_type.of(Chooser(2)) == "Chooser"
    assert by_type.of([Chooser(1)]) == by_type.of([Chooser(2)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda a, b: a + b, lambda a, b: a * b),
        (lambda a: a + 1, lambda a: a + 2),
        (lambda a: a in {"x", "y"}, lambda a: a in {"x", "z"}),
        (functools.partial(max), functools.partial(min)),
        (numpy.add, numpy.multiply),
        (numpy.arange(3), numpy.arange(3.0)),
        (numpy.arange(4), numpy.arange(4).reshape(2, 2)),
    ],
)
def test_what_differs_is_told_apart(one, other):
    assert Texts().of(one) != Texts().of(other)


def test_where_a_function_is_written_does_not_count():
    made = [eval("\n" * lines + "lambda a, b: a in {'x', 'y', 'z'} or b") for lines in (0, 7)]
    assert Texts().of(made[0]) == Texts().of(made[1])
    code = "from twister2.spec.alike import Texts; print(Texts().of(lambda a, b: a in {'x', 'y', 'z'} or b))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=30
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert texts == {f"{Texts().of(made[0])}\n".encode()}
