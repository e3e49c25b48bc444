"""mpi4py: Allreduce of one float64."""

# benchmark: venv=mpich launch=mpiexec packages=mpi4py,mpich,numpy
from __future__ import annotations

import statistics
import time

import numpy as np
from harness.contest import Contest
from harness.sizes import ITERATIONS
from mpi4py import MPI

world = MPI.COMM_WORLD
contest = Contest(reporter=world.rank == 0)


def job() -> dict[str, object]:
    calls, _ = ITERATIONS[contest.size]
    one, total = np.ones(1), np.empty(1)
    spent = []
    for _ in range(calls):
        begin = time.perf_counter()
        world.Allreduce(one, total)
        spent.append(time.perf_counter() - begin)
    median = world.allreduce(statistics.median(spent), MPI.MAX)
    return {"right": bool(total[0] == world.size), "figures": {"call of allreduce": median}}


contest.report(contest.run(job))
