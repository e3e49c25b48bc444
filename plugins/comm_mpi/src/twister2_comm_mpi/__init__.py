"""Transport over MPI: plugin ``mpi`` of kind ``comm``."""

from __future__ import annotations
