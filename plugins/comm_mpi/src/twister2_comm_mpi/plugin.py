"""Entry point of the plugin; mpi4py is imported when a transport is opened."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.collectives import OPERATIONS
from twister2.spec.comm import CommSpec, TransportFacts
from twister2.spec.plugin import Probe, hookimpl

from .config import MpiConfig

if TYPE_CHECKING:
    from twister2.spec.comm import Transport, TransportContext

FACTS = TransportFacts(
    worlds=("pmi1", "pmi2", "pmix", "mpiexec"),
    native=frozenset(OPERATIONS),
    segments=("mpich_*", "ucx_shm_posix_*", "vader_segment.*", "sm_segment.*", "psm2_shm.*", "efa_shm_*"),
)

REMEDY = (
    'pip install "twister2-comm-mpi[mpich]", which brings MPICH; or install your system\'s MPI (package mpich, or '
    "openmpi-bin or openmpi), or load its module"
)
PROBE_TIMEOUT_S = 10
_ASK = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())"


class MpiPlugin(CommSpec):
    """Transport over MPI."""

    api = (1, 0)
    config_class = MpiConfig
    facts: ClassVar[TransportFacts] = FACTS

    @hookimpl
    def comm_create(self, config: Any, context: TransportContext) -> Transport:
        """Make the transport of one worker; MPI is initialised by ``open``."""
        from .transport import MpiTransport

        return MpiTransport(config, context)

    @hookimpl
    def comm_probe(self, config: Any) -> Probe:
        """Tell whether mpi4py finds an MPI library; asked in a process of its own, which does not initialise it."""
        if importlib.util.find_spec("mpi4py") is None:
            return Probe(False, "mpi4py is not installed", remedy=REMEDY)
        try:
            done = subprocess.run(
                [sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Probe(False, f"loading the MPI library took more than {PROBE_TIMEOUT_S} s", remedy=REMEDY)
        lines = (done.stdout or done.stderr).strip().splitlines() or ["no message"]
        if done.returncode:
            return Probe(False, f"mpi4py finds no MPI library: {lines[-1]}", remedy=REMEDY)
        return Probe(True, " ".join(lines[0].split()))
