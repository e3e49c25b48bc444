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
        (functools.lru_cache(lambda a, b: a), functools.lru_cache(lambda a, b: b)),
        (numpy.vectorize(lambda a, b: a), numpy.vectorize(lambda a, b: b)),
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


def captured_by(kind, value):
    """A reducer that has captured a value."""
    if kind == "cell":
        return lambda a, b: (a, b, value)
    if kind == "default":
        return lambda a, b, held=value: (a, b, held)
    if kind == "named":
        return lambda a, b, *, held=value: (a, b, held)
    if kind == "partial":
        return functools.partial(lambda held, a, b: (a, b, held), value)
    if kind == "keyword":
        return functools.partial(lambda a, b, held=0: (a, b, held), held=value)
    inner = captured_by("cell", value)
    return lambda a, b: inner(a, b)


@pytest.mark.parametrize("kind", ["cell", "default", "named", "partial", "keyword", "nested"])
def test_captured_plain_values_count_where_they_are_asked_for(kind):
    values = [
        1, 2, "1", b"1", None, 1.5, (1, 2), (1, 3), [1, 2], [1, 3], {"a": 1}, {"a": 2}, {1}, ((1, [2]),), ((1, [3]),),
        numpy.arange(3), numpy.arange(1, 4), numpy.zeros(5000), numpy.zeros(5001), list(range(200)), max, min, len,
    ]  # fmt: skip
    of = Texts(captured=True).of
    texts = [of(captured_by(kind, value)) for value in values]
    assert len(set(texts)) == len(texts)
    assert texts == [of(captured_by(kind, value)) for value in values]
    if kind != "nested":
        assert Texts().of(captured_by(kind, 1)) == Texts().of(captured_by(kind, 2))


def test_what_is_not_compared_of_captured_values():
    of = Texts(captured=True).of
    for one, other in ((Chooser(1), Chooser(2)), (numpy.zeros(5000), numpy.ones(5000)), ([0] * 200, [1] * 200)):
        assert of(captured_by("cell", one)) == of(captured_by("cell", other))
    assert of(counting([1])) == of(counting([1, 2]))


def counting(seen):
    calls = len(seen)

    def add(a, b):
        nonlocal calls
        calls += 1
        seen.append(a)
        return a + b

    return add
