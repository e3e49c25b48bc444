"""What the word counts on TSets share: the form of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.wordcount import TOP

if TYPE_CHECKING:
    from twister2_tset import TSet


def rank(pair: tuple[str, int]) -> tuple[int, str]:
    """Frequent words first, equal ones by alphabet."""
    return -pair[1], pair[0]


def answer(counts: TSet[tuple[str, int]]) -> dict[str, object]:
    """Total, number of different words and the most frequent ones; computed once, kept on the workers."""
    kept = counts.cache()
    total = kept.map(lambda pair: pair[1]).reduce("sum", initial=0)
    return {"total": total, "distinct": kept.count(), "top": kept.top(TOP, key=rank, largest=False)}
