"""Values with shared methods behave as the values of attrs do."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twister2.spec
from twister2.spec.options import option
from twister2.spec.values import Value


@attrs.frozen
class OfAttrs:
    name: str
    number: float
    items: tuple[Any, ...] = ()
    note: str = attrs.field(default="", eq=False)
    secret: str = attrs.field(default="", repr=False)
    folded: str = attrs.field(default="", eq=str.lower, repr=str.upper)
    late: str = attrs.field(init=False, default="late")


@attrs.frozen(eq=False, repr=False)
class Shared(Value):
    name: str
    number: float
    items: tuple[Any, ...] = ()
    note: str = attrs.field(default="", eq=False)
    secret: str = attrs.field(default="", repr=False)
    folded: str = attrs.field(default="", eq=str.lower, repr=str.upper)
    late: str = attrs.field(init=False, default="late")


@attrs.frozen(eq=False, repr=False)
class Derived(Shared):
    more: int = 0


TEXTS = st.sampled_from(["", "a", "A", "b'\n"])
ARGUMENTS = st.tuples(
    TEXTS,
    st.sampled_from([0, 0.0, -0.0, 1, True, float("nan"), float("inf")]),
    st.lists(st.one_of(TEXTS, st.none()), max_size=2).map(tuple),
    TEXTS,
    TEXTS,
    TEXTS,
)


@given(ARGUMENTS, ARGUMENTS)
def test_what_is_equal_hashed_and_shown_is_as_with_attrs(left, right):
    theirs = OfAttrs(*left), OfAttrs(*right)
    ours = Shared(*left), Shared(*right)
    assert (ours[0] == ours[1]) is (theirs[0] == theirs[1])
    assert (ours[0] != ours[1]) is (theirs[0] != theirs[1])
    if ours[0] == ours[1]:
        assert hash(ours[0]) == hash(ours[1])
    assert repr(ours[0]) == repr(theirs[0]).replace("OfAttrs", "Shared")


@given(ARGUMENTS.filter(lambda given: given[1] == given[1]))
def test_copies_are_equal(given):
    value = Shared(*given)
    for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value)), attrs.evolve(value)):
        assert other == value
        assert hash(other) == hash(value)
    assert attrs.evolve(value, name="another") != value


def test_a_value_is_none_of_another_class():
    given = ("a", 1.0)
    assert Shared(*given) != OfAttrs(*given)
    assert Shared(*given) != Derived(*given)
    assert Derived(*given, more=1) != Derived(*given)
    assert hash(Derived(*given)) != hash(Shared(*given))
    assert Shared(*given).__eq__(given) is NotImplemented


def test_a_value_keeps_what_cannot_be_hashed():
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        hash(Shared("a", 1.0, items=([],)))


def test_a_value_that_holds_itself_can_be_shown():
    inside: list[Any] = []
    value = Shared("a", 1.0, items=(inside,))
    inside.append(value)
    assert repr(value).count("Shared(") == 1
    assert "..." in repr(value)


def test_a_value_is_frozen_and_small():
    value = Shared("a", 1.0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.name = "b"  # type: ignore[misc]
    assert not hasattr(value, "__dict__")


def test_a_secret_option_is_not_shown():
    @attrs.frozen(kw_only=True, eq=False, repr=False)
    class Options(Value):
        word: str = option("", "A word.", secret=True)
        name: str = option("", "A name.")

    assert repr(Options(word="hidden", name="shown")) == "Options(name='shown')"


def test_every_value_of_the_contracts_has_exactly_one_set_of_methods():
    """Who derives from Value leaves its methods to it: with those of attrs besides, nothing were gained."""
    found = 0
    for module in pkgutil.iter_modules(twister2.spec.__path__, "twister2.spec."):
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and issubclass(kind, Value) and kind is not Value:
                found += 1
                assert not {"__eq__", "__hash__", "__repr__"} & set(vars(kind)), kind
                assert attrs.has(kind), kind
    assert found > 20
