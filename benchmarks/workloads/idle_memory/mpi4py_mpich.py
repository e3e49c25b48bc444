"""mpi4py under MPICH's mpiexec: ranks that sleep behind a barrier."""

# benchmark: venv=mpich packages=mpi4py,mpich
from __future__ import annotations

import os
import sys

from harness import idle

PROGRAM = "import time; from mpi4py import MPI; MPI.COMM_WORLD.Barrier(); time.sleep(60)"

if __name__ == "__main__":
    mpiexec = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    idle.main(lambda count: [mpiexec, "-n", str(count), sys.executable, "-c", PROGRAM])
