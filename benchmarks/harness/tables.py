"""The numpy pieces of the hand-written join and group-by, and the answers of both workloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.contest import Contest
from harness.sizes import PARTS

Column = npt.NDArray[Any]

JOIN_ANSWER = ("rows", "left", "right", "product")
"""Of the joined rows: their number, the sums of both sides' values and of their products."""
GROUP_ANSWER = ("groups", "sum", "weighted", "largest")
"""Of the sums by key: their number, their sum, the sum of key times sum, and the largest."""


def files(contest: Contest, table: str) -> list[str]:
    """The Parquet files of a table."""
    return [contest.input(table, f"-{part}.parquet") for part in range(PARTS)]


def share(contest: Contest, table: str, names: Sequence[str], rank: int, size: int) -> list[Column]:
    """A rank's part of the columns of a table, which lie as npy files too."""
    mine = range(PARTS * rank // size, PARTS * (rank + 1) // size)
    return [np.concatenate([np.load(contest.input(table, f"-{name}-{part}.npy")) for part in mine]) for name in names]


def by_owner(keys: Column, values: Column, n: int) -> tuple[Column, Column, list[int]]:
    """The rows grouped by the rank that their keys belong to, and how many each rank gets."""
    scattered = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    owner = (scattered >> np.uint64(32)) % np.uint64(n)
    rows = [np.flatnonzero(owner == rank) for rank in range(n)]
    together = np.concatenate(rows)
    return keys[together], values[together], list(map(len, rows))


def summed(keys: Column, values: Column) -> tuple[Column, Column]:
    """The different keys in order, and the sum of the values of each."""
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(values[order], starts)


def join_sums(left: tuple[Column, Column], right: tuple[Column, Column]) -> Column:
    """The answer of the join of two tables of keys and values, made row by row."""
    keys, values = right
    order = np.argsort(keys)
    keys, values = keys[order], values[order]
    mine = np.argsort(left[0])  # neighbouring keys are searched faster than any
    wanted, given = left[0][mine], left[1][mine]
    first = np.searchsorted(keys, wanted, "left")
    counts = np.searchsorted(keys, wanted, "right") - first
    ends = np.cumsum(counts)
    rows = int(ends[-1]) if len(ends) else 0
    a = np.repeat(given, counts)
    b = values[np.arange(rows) + np.repeat(first - ends + counts, counts)]
    return np.array([rows, a.sum(), b.sum(), a @ b])


def named(names: Sequence[str], figures: Sequence[Any]) -> dict[str, float]:
    """An answer; the first figure is a number of rows."""
    first, *others = figures
    return dict(zip(names, [int(first), *map(float, others)], strict=True))
