"""k-means with numpy: a plain loop in every worker around one allreduce; no driver, no graph.

twister2 submit standalone --workers 4 examples/kmeans.py --points 100000 --clusters 10 --iterations 100
python examples/kmeans.py --workers 4
python examples/kmeans.py --points 3000 --clusters 5 --iterations 8 --seed 11 --plot kmeans.png
"""

from __future__ import annotations

import argparse
import importlib.util
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
    means.add_argument("--plot", metavar="PNG", help="draw the clusters of each iteration (pip install matplotlib)")
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


def plot(path: str, points: Array, steps: list[Array]) -> None:
    """Draw some points in the colour of their cluster, and the way of the centres, after at most nine iterations.

    :param steps: the centres before the first iteration and after each; the first two dimensions are drawn.
    """
    from matplotlib.figure import Figure

    chosen = sorted({round(number) for number in np.linspace(0, len(steps) - 1, min(9, len(steps)))})
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(4 * columns, 3.6 * rows), layout="constrained")
    some = points[:: max(1, len(points) // 3000)]
    for place, step in enumerate(chosen, start=1):
        axes = figure.add_subplot(rows, columns, place)
        nearest = ((some[:, None, :] - steps[step][None, :, :]) ** 2).sum(axis=2).argmin(axis=1)
        axes.scatter(some[:, 0], some[:, 1], c=nearest, cmap="tab10", s=3, alpha=0.5)
        ways = np.stack(steps[: step + 1])
        axes.plot(ways[:, :, 0], ways[:, :, 1], color="black", linewidth=0.8)
        axes.scatter(steps[step][:, 0], steps[step][:, 1], c="black", marker="X", edgecolors="white", s=80, zorder=3)
        axes.set_title("before" if step == 0 else f"after iteration {step}", fontsize=10)
        axes.set_aspect("equal", "datalim")
    figure.savefig(path, dpi=100)


def main(env: twister2.WorkerEnvironment) -> list[list[float]]:
    """Every worker has a share of the points and all of the centres."""
    options = parser().parse_args(env.args)
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise SystemExit("--plot needs matplotlib: pip install matplotlib")
    points, centres = random_points(options)
    mine = points[env.worker_id :: env.n_workers]
    steps = [centres]
    started = time.perf_counter()
    for _ in range(options.iterations):
        centres = moved(centres, allreduce(env, sums_and_counts(mine, centres)))
        steps.append(centres)
    if env.worker_id == 0:
        print(f"{options.iterations} iterations over {options.points:,} points: {time.perf_counter() - started:.3f} s")
        for number, centre in enumerate(centres[np.lexsort(centres.T[::-1])]):
            print(f"centre {number}: " + "  ".join(f"{value:9.4f}" for value in centre))
        if options.plot:
            plot(options.plot, points, steps)
            print(f"clusters of each iteration: {options.plot}")
    return [[float(value) for value in centre] for centre in centres]


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
