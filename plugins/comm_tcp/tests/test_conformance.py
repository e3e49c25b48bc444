"""The transport suite on processes: over Unix sockets, CURVE and plain TCP."""

from __future__ import annotations

from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.plugin import TcpPlugin
from twister2_testkit.comm import CommCapabilities, CommSuite

OPEN = CommCapabilities(
    processes=True,
    wait_fd=True,
    several_attempts=True,
    notices_closed_peers=True,
    over_2_gib=True,
    on_its_own=True,
    why={"allocates": "sockets have no memory of their own that others could read"},
)


class TestIpc(CommSuite):
    capabilities = OPEN
    config = TcpConfig()

    def make_transport(self, context):
        return TcpPlugin().comm_create(config=self.config, context=context)


class TestCurve(TestIpc):
    config = TcpConfig(same_host="tcp")


class TestPlain(TestIpc):
    config = TcpConfig(same_host="tcp", plain=True)
