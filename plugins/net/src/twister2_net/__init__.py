"""Communication operators on any transport, as edges of graphs (``net.partition``...) and as calls in worker programs.

::

    from twister2_net import allreduce

    def main(env):
        total = allreduce(env, numpy.ones(10), "sum")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twister2_net.calls import allgather as allgather
    from twister2_net.calls import allreduce as allreduce
    from twister2_net.calls import alltoall as alltoall
    from twister2_net.calls import barrier as barrier
    from twister2_net.calls import broadcast as broadcast
    from twister2_net.calls import gather as gather
    from twister2_net.calls import reduce as reduce
    from twister2_net.calls import reduce_scatter as reduce_scatter
    from twister2_net.calls import scan as scan
    from twister2_net.driving import Mark as Mark
    from twister2_net.driving import NetOperator as NetOperator
    from twister2_net.driving import operator as operator
    from twister2_net.exchanges import count_by_value as count_by_value
    from twister2_net.exchanges import keyed_partition as keyed_partition
    from twister2_net.exchanges import keyed_reduce as keyed_reduce
    from twister2_net.exchanges import partition as partition
    from twister2_net.keyed_calls import join as join
    from twister2_net.keyed_calls import keyed_gather as keyed_gather

_HOMES = {
    "Mark": "driving",
    "NetOperator": "driving",
    "operator": "driving",
    "alltoall": "calls",
    "allgather": "calls",
    "allreduce": "calls",
    "barrier": "calls",
    "broadcast": "calls",
    "gather": "calls",
    "reduce": "calls",
    "reduce_scatter": "calls",
    "scan": "calls",
    "count_by_value": "exchanges",
    "join": "keyed_calls",
    "keyed_gather": "keyed_calls",
    "keyed_partition": "exchanges",
    "keyed_reduce": "exchanges",
    "partition": "exchanges",
}

__all__ = [
    "Mark",
    "NetOperator",
    "allgather",
    "allreduce",
    "alltoall",
    "barrier",
    "broadcast",
    "count_by_value",
    "gather",
    "join",
    "keyed_gather",
    "keyed_partition",
    "keyed_reduce",
    "operator",
    "partition",
    "reduce",
    "reduce_scatter",
    "scan",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'twister2_net' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"twister2_net.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
