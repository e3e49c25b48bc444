"""Types that are given an order."""

from __future__ import annotations

import functools
import heapq

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twister2
from twister2.spec.errors import UsageError


@attrs.frozen
class Version:
    """Has no order of its own."""

    text: str


def by_number(a, b):
    left, right = (tuple(map(int, version.text.split("."))) for version in (a, b))
    return (left > right) - (left < right)


@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=3)))
def test_what_orders_values_takes_them(numbers):
    twister2.register_comparator(Version, by_number)
    versions = [Version(".".join(map(str, one))) for one in numbers]
    expected = sorted(versions, key=functools.cmp_to_key(by_number))
    assert sorted(versions) == expected
    assert [version for version, _ in sorted((version, 1) for version in versions)] == expected
    assert heapq.nsmallest(2, versions) == expected[:2]
    if versions:
        assert max(versions) == max(versions, key=functools.cmp_to_key(by_number))


def test_all_comparisons():
    twister2.register_comparator(Version, by_number)
    old, new = Version("1.2"), Version("1.10")
    assert old < new
    assert new > old
    assert old <= new
    assert new >= old
    assert old <= Version("1.2") >= old
    assert not old < Version("1.2")
    with pytest.raises(TypeError):
        assert old < "1.3"


def test_the_last_one_counts():
    twister2.register_comparator(Version, by_number)
    twister2.register_comparator(Version, lambda a, b: by_number(b, a))
    assert Version("2") < Version("1")
    twister2.register_comparator(Version, by_number)
    assert Version("1") < Version("2")


class Ordered:
    def __lt__(self, other):
        return False


@pytest.mark.parametrize("kind", [int, str, Ordered, type(iter([]))])
def test_an_order_that_is_there_is_not_replaced(kind):
    before = kind.__lt__
    with pytest.raises(UsageError, match=f"no order can be registered for {kind.__qualname__}"):
        twister2.register_comparator(kind, by_number)
    assert kind.__lt__ is before
