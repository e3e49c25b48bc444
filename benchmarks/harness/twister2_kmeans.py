"""k-means by operators of Twister2, over the communication that a contestant's options choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import twister2_net as net
from harness.contest import Contest
from harness.kmeans import iterations, moved, part_of_points, step

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)

    def job() -> list[list[float]]:
        points = part_of_points(contest.input("points", ".npy"), env.worker_id, env.n_workers)
        centroids = np.load(contest.input("centroids", ".npy"))
        for _ in range(iterations(contest.size)):
            centroids = moved(centroids, net.allreduce(env, step(points, centroids), "sum"))
        centres: list[list[float]] = centroids.tolist()
        return centres

    contest.report(contest.run(job))
