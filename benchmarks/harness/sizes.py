"""How large the inputs are, for the generator and for the contestants."""

from __future__ import annotations

from typing import Final, NamedTuple


class KMeansSize(NamedTuple):
    points: int
    dimensions: int
    clusters: int
    iterations: int


class TableSize(NamedTuple):
    """``exponent``: of Zipf's law, by which keys are drawn; 0: all alike often."""

    rows: int
    keys: int
    exponent: float = 0.0


class IterationSize(NamedTuple):
    calls: int
    side: int


class PlanSize(NamedTuple):
    vertices: int
    partitions: int


SIZES: Final = ("full", "small")
WORDCOUNT_BYTES: Final = {"full": 500_000_000, "small": 25_000_000}
KMEANS: Final = {
    "full": KMeansSize(100_000, 2, 10, 100),
    "small": KMeansSize(10_000, 2, 10, 10),
    "large": KMeansSize(2_000_000, 16, 64, 20),
}
RECORDS: Final = {"full": 10_000_000, "small": 200_000}
"""Of the workload ``terasort``."""
JOIN: Final = {
    "full": TableSize(10_000_000, 10_000_000),
    "small": TableSize(200_000, 200_000),
    "skew": TableSize(10_000_000, 10_000_000, 1.05),
}
"""Rows of each side; the exponent is that of the left side, the right side's keys are all alike often."""
GROUPBY: Final = {
    "full": TableSize(50_000_000, 1_000_000),
    "small": TableSize(500_000, 20_000),
    "skew": TableSize(50_000_000, 1_000_000, 1.05),
}
ITERATIONS: Final = {"full": IterationSize(2000, 100), "small": IterationSize(100, 10)}
PLANNING: Final = {"full": PlanSize(1000, 10_000), "small": PlanSize(100, 1000)}
PARTS: Final = 4
"""Files of each input that comes in parts."""
