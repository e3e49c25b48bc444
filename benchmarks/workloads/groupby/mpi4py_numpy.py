"""mpi4py and numpy by hand: npy columns, sums by key on each rank, these to the rank of their key, sums again."""

# benchmark: venv=mpich launch=mpiexec packages=mpi4py,mpich,numpy
from __future__ import annotations

import numpy as np
from harness.contest import Contest
from harness.mpi_tables import exchanged
from harness.tables import GROUP_ANSWER, named, share, summed
from mpi4py import MPI

world = MPI.COMM_WORLD
contest = Contest(reporter=world.rank == 0)


def job() -> dict[str, float]:
    mine = summed(*share(contest, "rows", "kv", world.rank, world.size))
    keys, sums = summed(*exchanged(world, *mine))
    figures = world.allreduce(np.array([len(keys), sums.sum(), keys @ sums]))
    return named(GROUP_ANSWER, [*figures, world.allreduce(float(sums.max()), MPI.MAX)])


contest.report(contest.run(job))
