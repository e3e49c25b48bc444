"""mpi4py on MPICH: the buffer calls, under its own mpiexec."""

# benchmark: venv=mpich launch=mpiexec packages=mpi4py,mpich,numpy
from __future__ import annotations

from harness.mpi_collectives import main

main()
