from __future__ import annotations

from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin
from twister2_testkit.ops import OperatorSuite, OpsCapabilities

ALL = OpsCapabilities(
    direct=True, partition=True, keyed_partition=True, keyed_reduce=True, count_by_value=True, reduce=True,
    allreduce=True, gather=True, broadcast=True, barrier=True, arrays=True, arrow=True, ranges=True,
)  # fmt: skip


class TestNet(OperatorSuite):
    capabilities = ALL

    def make_operators(self):
        return NetPlugin().ops_create(config=NetConfig())


class TestNetSmallBatches(OperatorSuite):
    """Everything in many small messages."""

    capabilities = ALL
    transport = "loopback"

    def make_operators(self):
        return NetPlugin().ops_create(config=NetConfig(batch_records=3, combine_keys=2, sample_per_target=50))
