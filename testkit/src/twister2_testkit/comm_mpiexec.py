"""Worlds of Open MPI for transports: ``mpiexec`` starts placeholders, whose environment the forked ranks take over.

Open MPI has no process manager protocol that a test could serve itself, as PMI-1 is for MPICH; its ``mpiexec`` serves
PMIx to any process of the user that has the environment of a rank.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MPIEXEC = "mpiexec.openmpi"
LIBRARY = {"MPI4PY_MPIABI": "openmpi", "MPI4PY_LIBMPI": "libmpi.so.40"}
"""Makes mpi4py's wheel load the system's Open MPI, whatever else is installed beside it."""
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
START_S = 60.0

_PLACEHOLDER = """import json, os, sys
folder, rank = sys.argv[1], os.environ["OMPI_COMM_WORLD_RANK"]
with open(f"{folder}/{rank}.part", "w") as file:
    json.dump(dict(os.environ), file)
os.rename(f"{folder}/{rank}.part", f"{folder}/{rank}.json")
os.open(f"{folder}/end", os.O_RDONLY)  # nobody writes: until it is killed
"""


class OpenMpiWorld:
    """Services (:class:`twister2_testkit.comm_world.Services`) of ``size`` forked ranks on one host."""

    def __init__(self, size: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="t2", dir="/tmp"))
        os.mkfifo(self._folder / "end")
        self._mpiexec = subprocess.Popen(
            [MPIEXEC, "--oversubscribe", "-n", str(size), sys.executable, "-c", _PLACEHOLDER, str(self._folder)],
            env={**os.environ, **AS_ROOT, "TMPDIR": str(self._folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def enter(self, rank: int) -> None:
        """Take over the environment of a rank."""
        file, deadline = self._folder / f"{rank}.json", time.monotonic() + START_S
        while not file.exists():
            assert time.monotonic() < deadline, f"{MPIEXEC} started no rank {rank} within {START_S} s"
            time.sleep(0.01)
        os.environ.clear()
        os.environ.update(json.loads(file.read_text()), **LIBRARY)

    def started(self) -> None:
        """The ranks are started."""

    def descriptors(self) -> Sequence[int]:
        """Nothing to serve: mpiexec does."""
        return []

    def on_readable(self, descriptor: int) -> None:
        """Nothing to serve."""

    def close(self) -> None:
        """End the placeholders; they never finalize, which mpiexec takes for an abort."""
        self._mpiexec.terminate()
        try:
            self._mpiexec.wait(10)
        except subprocess.TimeoutExpired:
            self._mpiexec.kill()
            self._mpiexec.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)
