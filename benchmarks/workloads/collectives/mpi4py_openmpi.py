"""mpi4py on Open MPI: the buffer calls, under its own mpiexec."""

# benchmark: venv=openmpi launch=mpiexec_open packages=mpi4py,openmpi,numpy
from __future__ import annotations

from harness.mpi_collectives import main

main()
