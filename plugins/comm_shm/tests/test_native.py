"""The suite for native collectives on processes that read each other's memory, and through small stages."""

from __future__ import annotations

from twister2_comm_shm.collectives import windows
from twister2_comm_shm.config import ShmConfig
from twister2_comm_shm.plugin import FACTS, ShmPlugin
from twister2_testkit.natives import NativeSuite


class TestNative(NativeSuite):
    processes = True
    config = ShmConfig()
    lengths = (0, 1, 7, 1000, 2048, 8192, 8193, 100_003, 700_001)

    def make_transport(self, context):
        return ShmPlugin().comm_create(config=self.config, context=context)

    def operations(self):
        return FACTS.native


class TestSmallStage(TestNative):
    config = ShmConfig(stage_bytes=512 << 10)

    def make_transport(self, context):
        windows.system_call = None  # in the process of the rank: a system that does not permit it
        return super().make_transport(context)
