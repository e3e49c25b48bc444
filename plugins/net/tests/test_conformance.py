from __future__ import annotations

import attrs

from twister2.spec.ops import Operators
from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin
from twister2_testkit.ops import OperatorSuite, OpsCapabilities

ALL = OpsCapabilities(
    direct=True, partition=True, keyed_partition=True, keyed_reduce=True, count_by_value=True, reduce=True,
    allreduce=True, gather=True, broadcast=True, barrier=True, arrays=True, arrow=True, ranges=True,
    pipe=True, allgather=True, union=True, reduce_scatter=True, alltoall=True, streams=True,
    keyed_gather=True, join=True, spills=True, sort=True, distinct=True, co_group=True, cross=True, zip=True,
    number=True, aggregate=True,
)  # fmt: skip

TREES = ("direct", "tree", "chain")
ALGORITHMS = {
    "partition": ("chain",), "keyed_partition": ("chain",), "reduce": TREES, "allreduce": TREES, "gather": TREES,
    "allgather": TREES, "broadcast": TREES,
}  # fmt: skip


class TestNet(OperatorSuite):
    capabilities = ALL
    algorithms = ALGORITHMS

    def make_operators(self):
        return NetPlugin().ops_create(config=NetConfig())


class TestNetSmallBatches(OperatorSuite):
    """Everything in many small messages."""

    capabilities = ALL
    algorithms = ALGORITHMS
    transport = "loopback"

    def make_operators(self):
        return NetPlugin().ops_create(
            config=NetConfig(batch_records=3, combine_keys=2, sample_per_target=50, ring_bytes=1)
        )


class TestNetOverTcp(OperatorSuite):
    """Over sockets: messages come later, in other lumps, and never by reference."""

    capabilities = ALL
    algorithms = ALGORITHMS
    transport = "tcp"
    deadline_s = 60.0

    def make_operators(self):
        return NetPlugin().ops_create(config=NetConfig())


class Two(Operators):
    """A catalogue that has one_to_one operators only."""

    def __init__(self):
        self.inner = NetPlugin().ops_create(config=NetConfig())

    def catalog(self):
        return {name: info for name, info in self.inner.catalog().items() if name in ("direct", "pipe")}

    def create(self, context):
        return self.inner.create(context)


class TestACatalogueWithoutOperatorsThatJoinSources(OperatorSuite):
    """What is not there is skipped, and nothing fails."""

    capabilities = OpsCapabilities(
        direct=True, pipe=True, arrays=True, streams=True,
        why=dict.fromkeys(
            set(attrs.asdict(ALL, recurse=False)) - {"direct", "pipe", "arrays", "streams", "why"}, "not in this one"
        ),
    )  # fmt: skip
    transport = "loopback"

    def make_operators(self):
        return Two()
