"""Equal keys have equal stable hashes, whatever their types."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.errors import KeyHashError
from twister2.spec.hashing import (
    HASH_VERSION,
    N_KEY_GROUPS,
    key_group,
    stable_hash,
    task_of_key,
    task_of_key_group,
    tasks_of_keys,
)


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Colour(str, enum.Enum):  # noqa: UP042 - its text differs from its value
    RED = "red"


class Number(int, enum.Enum):
    ONE = 1


class Ratio(float, enum.Enum):
    HALF = 0.5


class Place(tuple[int, int], enum.Enum):
    HERE = (1, 2)


class Moment(datetime.date, enum.Enum):
    START = 2020, 1, 1


class Plain(enum.Enum):
    ONE = 1
    TWO = 2


class Point(NamedTuple):
    x: int
    y: int


NOON = datetime.datetime(2020, 1, 1, 12)
EQUAL: list[tuple[Any, ...]] = [
    (0, 0.0, -0.0, False, decimal.Decimal("-0"), numpy.float32(0), numpy.int8(0), numpy.False_, 0j),
    (1, 1.0, True, decimal.Decimal("1.00"), fractions.Fraction(1), numpy.int64(1), numpy.uint8(1), Number.ONE),
    (0.5, decimal.Decimal("0.5"), fractions.Fraction(1, 2), numpy.float16(0.5), numpy.longdouble(0.5), Ratio.HALF),
    (2**80, float(2**80), decimal.Decimal(2**80)),
    ("red", Text("red"), Colour.RED, numpy.str_("red")),
    (b"x", numpy.bytes_(b"x")),
    ((1, 2), Point(1, 2), Point(1.0, 2), Place.HERE, (numpy.int64(1), 2)),  # type: ignore[arg-type]
    (frozenset((1, "a")), frozenset(("a", 1.0))),
    (datetime.date(2020, 1, 1), Moment.START),
    (NOON, numpy.datetime64(NOON, "s"), numpy.datetime64(NOON, "us")),
    (numpy.datetime64(NOON, "s"), numpy.datetime64(NOON, "us"), numpy.datetime64(NOON, "ns")),
    (numpy.datetime64("2020-01-01"), numpy.datetime64("2020-01-01T00", "h"), numpy.datetime64("2020-01-01", "ns")),
    (datetime.timedelta(seconds=90), numpy.timedelta64(90, "s"), numpy.timedelta64(90 * 10**6, "us")),
    (numpy.timedelta64(90, "s"), numpy.timedelta64(90 * 10**9, "ns")),
    (NOON.replace(tzinfo=datetime.UTC), NOON.replace(hour=14, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))),
]


@pytest.mark.parametrize("keys", EQUAL, ids=[f"{number}-{type(keys[0]).__name__}" for number, keys in enumerate(EQUAL)])
def test_equal_keys(keys: tuple[Any, ...]) -> None:
    assert all(key == keys[0] for key in keys)
    assert {stable_hash(key) for key in keys} == {stable_hash(keys[0])}


@given(st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.decimals(allow_nan=False))
def test_numbers(number: Any) -> None:
    for other in (int, float, decimal.Decimal):
        try:
            same = other(number)
        except (OverflowError, ValueError):
            continue
        if same == number:
            assert stable_hash(same) == stable_hash(number)


def test_members_of_enums_differ() -> None:
    assert len({stable_hash(key) for key in (Plain.ONE, Plain.TWO, 1, "ONE")}) == 4


def test_not_a_time_and_not_a_number_have_hashes() -> None:
    assert stable_hash(numpy.datetime64("NaT")) == stable_hash(numpy.datetime64("NaT", "ns"))
    assert stable_hash(float("nan")) == stable_hash(numpy.float32("nan")) == stable_hash(decimal.Decimal("nan"))


@pytest.mark.parametrize(
    "key", [[1], {}, object(), numpy.array([1]), numpy.zeros(1, "i4,i4")[0]], ids=lambda key: type(key).__name__
)
def test_what_has_no_stable_hash_is_an_error(key: Any) -> None:
    with pytest.raises(KeyHashError):
        stable_hash(key)


@given(st.one_of(st.text(), st.integers(), st.tuples(st.text(), st.integers())), st.integers(1, 3 * N_KEY_GROUPS))
def test_a_key_belongs_to_the_task_of_its_group(key: Any, n_tasks: int) -> None:
    group = key_group(key)
    assert 0 <= group < N_KEY_GROUPS
    assert task_of_key_group(group, n_tasks) == task_of_key(key, n_tasks) == tasks_of_keys([key], n_tasks)[0]


@pytest.mark.parametrize("n_tasks", [1, 2, 3, 7, 64, 1000, N_KEY_GROUPS])
def test_tasks_own_runs_of_groups_of_nearly_equal_size(n_tasks: int) -> None:
    owners = [task_of_key_group(group, n_tasks) for group in range(N_KEY_GROUPS)]
    assert owners == sorted(owners)
    sizes = collections.Counter(owners)
    assert set(sizes) == set(range(n_tasks))
    assert max(sizes.values()) - min(sizes.values()) <= 1


@given(st.lists(st.text()) | st.lists(st.binary()) | st.lists(st.text() | st.binary() | st.integers()))
def test_many_keys_at_once_go_where_each_goes(keys: list[Any]) -> None:
    assert tasks_of_keys(keys, 7) == [task_of_key(key, 7) for key in keys]
    assert tasks_of_keys(iter(keys), 300) == [task_of_key(key, 300) for key in keys]


@pytest.mark.parametrize("make", [str, lambda number: str(number).encode()])
def test_many_keys_take_little_more_room_than_their_tasks(make: Callable[[int], Any]) -> None:
    """A table of all words is placed at the moment in which a job has most in memory."""
    keys = [make(number) for number in range(60_000)]
    tasks_of_keys(keys[:10], 7)
    tracemalloc.start()
    try:
        found = tasks_of_keys(keys, 7)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == len(keys)
    assert peak < 4 * 8 * len(keys)


@pytest.mark.parametrize("make", [str, lambda number: str(number).encode()])
def test_many_texts_where_there_is_no_numpy(make: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The core does not require it."""
    keys = list(map(make, range(1000)))
    found = tasks_of_keys(keys, 7)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert tasks_of_keys(keys, 7) == found == [task_of_key(key, 7) for key in keys]


def test_hashes_of_this_version() -> None:
    """What is stored by key is found by these: with other ones the version is another, too."""
    known = {
        "": 0,
        "a": 0x88A0D90100E5C556,
        b"a": 0x88A0D90100E5C556,
        "ä": 0x104DE04D9B138E34,
        1: 0xB456BCFC34C2CB2C,
        0.5: 0x92B3AEADD09921DF,
        (1, "a"): 0x6A4EB7CD4560084B,
        None: 0x48EDFC3F88802EA4,
    }
    assert HASH_VERSION == 2
    assert {key: stable_hash(key) for key in known} == known


@pytest.mark.parametrize(
    "text",
    ["{}", "key{}", "{:012}", "user-{}@example.org", "https://example.org/{}/index.html", "{0:x}{0:b}", "\u00e4{}"],
)
@pytest.mark.parametrize("n_tasks", [2, 7, 64])
def test_texts_that_are_alike_are_spread_evenly(text: str, n_tasks: int) -> None:
    n_keys = 1000 * n_tasks
    counts = collections.Counter(tasks_of_keys([text.format(number) for number in range(n_keys)], n_tasks))
    assert len(counts) == n_tasks
    assert sum((count - 1000) ** 2 for count in counts.values()) / 1000 < 3 * n_tasks + 20, "chi squared"


def test_texts_that_are_no_utf8_and_subclasses_of_text() -> None:
    for keys in (["\ud800", "a"], [Text("a"), "a"], [Colour.RED, "red"], [numpy.str_("a"), numpy.bytes_(b"a")]):
        assert tasks_of_keys(keys, 1000) == [task_of_key(key, 1000) for key in keys]
