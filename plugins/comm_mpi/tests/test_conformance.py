"""The suites of transports and of native collectives: on MPICH, with the process manager in the test, and on Open MPI,
started by its mpiexec.
"""

from __future__ import annotations

import pytest

from twister2_comm_mpi.config import MpiConfig
from twister2_comm_mpi.plugin import FACTS, MpiPlugin
from twister2_testkit.comm import CommCapabilities, CommSuite
from twister2_testkit.comm_mpiexec import OpenMpiWorld
from twister2_testkit.comm_pmi import PmiWorld
from twister2_testkit.natives import NativeSuite

from .test_native import no_shared_memory


@pytest.mark.needs_mpi
class TestMpi(CommSuite):
    segments = FACTS.segments
    capabilities = CommCapabilities(
        processes=True,
        over_2_gib=True,
        why={
            "on_its_own": "MPI moves data only inside calls",
            "allocates": "MPI sends from any memory",
            "wait_fd": "MPI moves data only inside calls",
            "several_attempts": "a process belongs to one MPI world, whose members are made for one attempt",
            "notices_closed_peers": "a rank leaves an MPI world together with all others",
        },
    )

    def make_transport(self, context):
        return MpiPlugin().comm_create(config=MpiConfig(chunk_bytes=1 << 24), context=context)

    def make_services(self, size):
        return PmiWorld(size)


@pytest.mark.needs_openmpi
class TestOpenMpi(TestMpi):
    def make_services(self, size):
        return OpenMpiWorld(size)


@pytest.mark.needs_mpi
class TestMpiNative(NativeSuite):
    processes = True
    segments = FACTS.segments

    def make_transport(self, context):
        return MpiPlugin().comm_create(config=MpiConfig(), context=context)

    def make_services(self, size):
        return PmiWorld(size)


@pytest.mark.needs_mpi
class TestMpiNativeByTheLibrary(TestMpiNative):
    """What members of several hosts get, who share no memory."""

    sizes = (3,)

    def make_transport(self, context):
        no_shared_memory()
        return super().make_transport(context)


@pytest.mark.needs_openmpi
class TestOpenMpiNative(TestMpiNative):
    sizes = (3,)  # its mpiexec takes a second to start
    lengths = (0, 1, 1000, 100_003)

    def make_services(self, size):
        return OpenMpiWorld(size)
