"""How large the inputs are, for the generator and for the contestants."""

from __future__ import annotations

from typing import Final, NamedTuple


class KMeansSize(NamedTuple):
    points: int
    dimensions: int
    clusters: int
    iterations: int


WORDCOUNT_BYTES: Final = {"full": 500_000_000, "small": 25_000_000}
KMEANS: Final = {"full": KMeansSize(100_000, 2, 10, 100), "small": KMeansSize(10_000, 2, 10, 10)}
SIZES: Final = tuple(KMEANS)
