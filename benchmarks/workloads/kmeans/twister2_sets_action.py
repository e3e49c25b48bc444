"""Twister2, TSet: cached parts of the points, an action (reduce) per iteration, the centroids a plain variable."""

# benchmark: venv=twister2 launch=submit packages=twister2-tset,numpy
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from harness.contest import Contest
from harness.kmeans import iterations, moved, part_of_points, step

from twister2_tset import TSetContext

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)
    path, n = contest.input("points", ".npy"), env.n_workers

    def job() -> list[list[float]]:
        context = TSetContext(env, name="kmeans")
        points = context.parallelize(range(n)).map_batches(lambda parts: part_of_points(path, parts[0], n)).cache()
        centroids = np.load(contest.input("centroids", ".npy"))
        sums = points.map_batches(lambda points: step(points, centroids)[np.newaxis])
        for _ in range(iterations(contest.size)):
            centroids = moved(centroids, sums.reduce("sum"))
        centres: list[list[float]] = centroids.tolist()
        return centres

    contest.report(contest.run(job))
