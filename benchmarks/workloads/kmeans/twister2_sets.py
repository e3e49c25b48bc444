"""Twister2, TSet: cached parts of the points, the centroids a stored set; one plan for all iterations (evaluating)."""

# benchmark: venv=twister2 launch=submit packages=twister2-tset,numpy
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from harness.contest import Contest
from harness.kmeans import iterations, moved, part_of_points, step

from twister2_tset import TSetContext

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)
    path, n = contest.input("points", ".npy"), env.n_workers

    def assigned(points: Any, context: Any) -> Any:
        (centroids,) = context.input("centroids")
        return step(points, centroids)[np.newaxis]

    def next_ones(sums: Any, context: Any) -> Any:
        (centroids,) = context.input("centroids")
        return moved(centroids, sums)

    def job() -> list[list[float]]:
        context = TSetContext(env, name="kmeans")
        points = context.parallelize(range(n)).map_batches(lambda parts: part_of_points(path, parts[0], n)).cache()
        centroids = context.parallelize([np.load(contest.input("centroids", ".npy"))]).replicate().cache()
        sums = points.map_batches(assigned).add_input("centroids", centroids).all_reduce("sum")
        update = sums.map(next_ones).add_input("centroids", centroids)
        with context.evaluating(update, into=centroids) as iteration:
            for _ in range(iterations(contest.size)):
                iteration()
        (found,) = centroids.local()
        centres: list[list[float]] = found.tolist()
        return centres

    contest.report(contest.run(job))
