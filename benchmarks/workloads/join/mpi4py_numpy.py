"""mpi4py and numpy by hand: npy columns, rows to the rank of their key (Alltoallv), local join by sorting."""

# benchmark: venv=mpich launch=mpiexec packages=mpi4py,mpich,numpy
from __future__ import annotations

from harness.contest import Contest
from harness.mpi_tables import exchanged
from harness.tables import JOIN_ANSWER, join_sums, named, share
from mpi4py import MPI

world = MPI.COMM_WORLD
contest = Contest(reporter=world.rank == 0)


def job() -> dict[str, float]:
    left = exchanged(world, *share(contest, "left", "ka", world.rank, world.size))
    right = exchanged(world, *share(contest, "right", "kb", world.rank, world.size))
    return named(JOIN_ANSWER, world.allreduce(join_sums(left, right)))


contest.report(contest.run(job))
