"""mpi4py under MPICH's mpiexec: one allreduce."""

# benchmark: venv=mpich launch=mpiexec packages=mpi4py,mpich
from __future__ import annotations

from harness.contest import Contest
from mpi4py import MPI

world = MPI.COMM_WORLD
contest = Contest(reporter=world.rank == 0)
contest.report(contest.run(lambda: world.allreduce([20, 22][world.rank])))
