"""k-means with numpy: a plain loop in every worker around one allreduce; no driver, no graph.

twister2 submit standalone --workers 4 examples/kmeans.py --points 100000 --clusters 10 --iterations 100
python examples/kmeans.py --workers 4
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import numpy.typing as npt

import twister2
from twister2_net import allreduce

Array = npt.NDArray[np.float64]


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="kmeans.py", description="Cluster random points.")
    means.add_argument("--points", type=int, default=100_000)
    means.add_argument("--dimensions", type=int, default=2)
    means.add_argument("--clusters", type=int, default=10)
    means.add_argument("--iterations", type=int, default=100)
    means.add_argument("--seed", type=int, default=1)
    means.add_argument("--workers", type=int, default=2, help="worker processes, when run by python alone")
    return means


def random_points(options: argparse.Namespace) -> tuple[Array, Array]:
    """Points around random centres, and the centres to begin with; the same in every process.

    :returns: arrays of shape (points, dimensions) and (clusters, dimensions).
    """
    random = np.random.default_rng(options.seed)
    centres = random.uniform(-10, 10, (options.clusters, options.dimensions))
    points = centres[random.integers(0, options.clusters, options.points)]
    points = points + random.normal(0, 1, points.shape)
    return points, points[random.choice(options.points, options.clusters, replace=False)]


def sums_and_counts(points: Array, centres: Array) -> Array:
    """One row per cluster: the sum of the points nearest to its centre, and in the last column their number."""
    distances = (centres**2).sum(axis=1) - 2.0 * (points @ centres.T)
    nearest = distances.argmin(axis=1)
    clusters, dimensions = centres.shape
    result = np.empty((clusters, dimensions + 1))
    for dimension in range(dimensions):
        result[:, dimension] = np.bincount(nearest, points[:, dimension], clusters)
    result[:, dimensions] = np.bincount(nearest, minlength=clusters)
    return result


def moved(centres: Array, sums: Array) -> Array:
    """The new centres; a cluster without points stays where it is."""
    counts = sums[:, -1:]
    return np.where(counts > 0, sums[:, :-1] / np.maximum(counts, 1), centres)


def main(env: twister2.WorkerEnvironment) -> list[list[float]]:
    """Every worker has a share of the points and all of the centres."""
    options = parser().parse_args(env.args)
    points, centres = random_points(options)
    mine = points[env.worker_id :: env.n_workers]
    started = time.perf_counter()
    for _ in range(options.iterations):
        centres = moved(centres, allreduce(env, sums_and_counts(mine, centres)))
    if env.worker_id == 0:
        print(f"{options.iterations} iterations over {options.points:,} points: {time.perf_counter() - started:.3f} s")
        for number, centre in enumerate(centres[np.lexsort(centres.T[::-1])]):
            print(f"centre {number}: " + "  ".join(f"{value:9.4f}" for value in centre))
    return [[float(value) for value in centre] for centre in centres]


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
