"""The transport suite on processes, with large and with tiny memory."""

from __future__ import annotations

from twister2_comm_shm.config import ShmConfig
from twister2_comm_shm.plugin import ShmPlugin
from twister2_testkit.comm import CommCapabilities, CommSuite

OPEN = CommCapabilities(
    processes=True,
    wait_fd=True,
    several_attempts=True,
    notices_closed_peers=True,
    over_2_gib=True,
    on_its_own=True,
    allocates=True,
)


class TestShm(CommSuite):
    capabilities = OPEN
    config = ShmConfig()

    def make_transport(self, context):
        return ShmPlugin().comm_create(config=self.config, context=context)


class TestSmallRingsAndPool(TestShm):
    config = ShmConfig(ring_bytes=16 << 10, inline_bytes=512, pool_bytes=1 << 20)
