"""mpi4py: a part of the points on each rank, one Allreduce in place per iteration."""

# benchmark: venv=mpich launch=mpiexec packages=mpi4py,mpich,numpy
from __future__ import annotations

import numpy as np
from harness.contest import Contest
from harness.kmeans import iterations, moved, part_of_points, step
from mpi4py import MPI

world = MPI.COMM_WORLD
contest = Contest(reporter=world.rank == 0)


def job() -> list[list[float]]:
    points = part_of_points(contest.input("points", ".npy"), world.rank, world.size)
    centroids = np.load(contest.input("centroids", ".npy"))
    for _ in range(iterations(contest.size)):
        sums = step(points, centroids)
        world.Allreduce(MPI.IN_PLACE, sums)
        centroids = moved(centroids, sums)
    return centroids.tolist()


contest.report(contest.run(job))
