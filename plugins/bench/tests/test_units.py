"""Sizes and times as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.errors import UsageError
from twister2_bench.units import LARGEST, shown_size, shown_time, size_of


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8", 8),
        ("8B", 8),
        ("1K", 1024),
        ("1k", 1024),
        ("64KiB", 65536),
        ("1MB", 1 << 20),
        ("4M", 4 << 20),
        ("1G", LARGEST),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "0", "-8", "7", "12", "8X", "1.5M", "K", "M8", "2G", "8 8", "٨"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        size_of(text)


@given(st.integers(1, 1 << 20).map(lambda n: 8 * n))
def test_a_size_that_is_shown_whole_is_read_again(size: int) -> None:
    shown = shown_size(size)
    if "." not in shown and "e" not in shown:
        assert size_of(shown.replace(" ", "")) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.123e-6, "8.12 us"), (0.0, "0.00 us"), (123.4e-6, "123 us"), (0.0125, "12.5 ms"), (2.0, "2.00 s")],
)
def test_times_are_shown_with_three_digits(seconds: float, text: str) -> None:
    assert shown_time(seconds) == text
