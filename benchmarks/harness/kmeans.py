"""The numpy kernel of Lloyd's k-means that all contestants compute with, so that what differs is the system around."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.sizes import KMEANS

Floats = npt.NDArray[np.float64]

_BLOCK = 16_384


def iterations(size: str) -> int:
    return KMEANS[size].iterations


def part_of_points(path: str, part: int, parts: int) -> Floats:
    """One of ``parts`` equal shares of the points, shape (points / parts, dimensions), in memory."""
    points = np.load(path, mmap_mode="r")
    return np.array(points[len(points) * part // parts : len(points) * (part + 1) // parts])


def step(points: Floats, centroids: Floats) -> Floats:
    """Assign points to their nearest centroids: per centroid the sum of its points and, last column, their number.

    One array of shape (clusters, dimensions + 1), so that a step needs a single exchange.
    """
    clusters, dimensions = centroids.shape
    sums = np.zeros((clusters, dimensions + 1))
    half_norms = 0.5 * (centroids * centroids).sum(axis=1)
    transposed = np.ascontiguousarray(centroids.T)
    for begin in range(0, len(points), _BLOCK):
        block = points[begin : begin + _BLOCK]
        nearest = (half_norms - block @ transposed).argmin(axis=1)
        for axis in range(dimensions):
            sums[:, axis] += np.bincount(nearest, block[:, axis], clusters)
        sums[:, dimensions] += np.bincount(nearest, minlength=clusters)
    return sums


def moved(centroids: Floats, sums: Floats) -> Floats:
    """The centroids after a step; one without points stays where it is."""
    counts = sums[:, -1:]
    means: Floats = np.where(counts > 0, sums[:, :-1] / np.maximum(counts, 1), centroids)
    return means
