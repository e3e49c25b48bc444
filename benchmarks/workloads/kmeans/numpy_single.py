"""Floor: one process, the kernel on all points."""

# benchmark: venv=main packages=numpy
from __future__ import annotations

import numpy as np
from harness.contest import Contest
from harness.kmeans import iterations, moved, part_of_points, step

contest = Contest()


def job() -> list[list[float]]:
    points = part_of_points(contest.input("points", ".npy"), 0, 1)
    centroids = np.load(contest.input("centroids", ".npy"))
    for _ in range(iterations(contest.size)):
        centroids = moved(centroids, step(points, centroids))
    return centroids.tolist()


contest.report(contest.run(job))
