"""Twister2, Harp over comm_mpi (MPICH)."""

# benchmark: venv=twister2 launch=submit options=job.comm=mpi
# benchmark: packages=twister2-harp,twister2-comm-mpi,numpy,mpi4py,mpich
from __future__ import annotations

from harness.twister2_collectives import main as main
