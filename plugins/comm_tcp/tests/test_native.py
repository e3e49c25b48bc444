"""The suite for native collectives on processes: Unix sockets, CURVE, plain TCP, and a window of few messages."""

from __future__ import annotations

from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.plugin import FACTS, TcpPlugin
from twister2_testkit.natives import NativeSuite


class TestNative(NativeSuite):
    processes = True
    config = TcpConfig()
    lengths = (0, 1, 2, 7, 512, 513, 1000, 8192, 8193)

    def make_transport(self, context):
        return TcpPlugin().comm_create(config=self.config, context=context)

    def operations(self):
        return FACTS.native


class TestCurve(TestNative):
    config = TcpConfig(same_host="tcp")


class TestPlain(TestNative):
    config = TcpConfig(same_host="tcp", plain=True)


class TestSmallWindow(TestNative):
    config = TcpConfig(window_messages=4, window_bytes=1000)
