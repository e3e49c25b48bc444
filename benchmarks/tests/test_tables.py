from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness.resident import Resident, resident_mb
from harness.tables import JOIN_ANSWER, by_owner, join_sums, named, summed
from hypothesis import given, settings
from hypothesis import strategies as st

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 100)), max_size=30)


def table(rows: list[tuple[int, int]]) -> tuple[Any, Any]:
    return np.array([key for key, _ in rows], "i8"), np.array([value for _, value in rows], "f8")


@given(left=ROWS, right=ROWS)
@settings(max_examples=100, deadline=None)
def test_a_join_is_all_pairs_of_equal_keys(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    pairs = [(a, b) for key, a in left for other, b in right if key == other]
    expected = [len(pairs), sum(a for a, _ in pairs), sum(b for _, b in pairs), sum(a * b for a, b in pairs)]
    assert list(join_sums(table(left), table(right))) == expected


@given(rows=ROWS.filter(bool))
@settings(max_examples=50, deadline=None)
def test_sums_by_key(rows: list[tuple[int, int]]) -> None:
    expected: dict[int, int] = {}
    for key, value in rows:
        expected[key] = expected.get(key, 0) + value
    keys, sums = summed(*table(rows))
    assert list(zip(keys.tolist(), sums.tolist(), strict=True)) == sorted(expected.items())


@given(rows=ROWS, n=st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_each_key_has_one_owner(rows: list[tuple[int, int]], n: int) -> None:
    keys, values, counts = by_owner(*table(rows), n)
    assert sorted(zip(keys.tolist(), values.tolist(), strict=True)) == sorted(rows)
    owners = np.repeat(np.arange(n), counts)
    assert all(len(set(owners[keys == key].tolist())) == 1 for key in set(keys.tolist()))


def test_answers_are_plain_numbers_by_name() -> None:
    assert named(JOIN_ANSWER, np.array([2.0, 1.5, 2.5, 4.0])) == {"rows": 2, "left": 1.5, "right": 2.5, "product": 4.0}


@pytest.mark.timeout(30)
def test_what_was_resident_for_a_moment_is_noticed() -> None:
    before = resident_mb()
    with Resident() as resident:
        block = np.ones(8_000_000)
        while resident.peak_mb < before + 50:  # it looks again and again
            pass
        del block
    assert before + 50 <= resident.peak_mb < before + 500
