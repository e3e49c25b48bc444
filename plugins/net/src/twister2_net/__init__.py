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
    from twister2_net.calls.collectives import allgather as allgather
    from twister2_net.calls.collectives import allreduce as allreduce
    from twister2_net.calls.collectives import alltoall as alltoall
    from twister2_net.calls.collectives import barrier as barrier
    from twister2_net.calls.collectives import broadcast as broadcast
    from twister2_net.calls.collectives import gather as gather
    from twister2_net.calls.collectives import reduce as reduce
    from twister2_net.calls.collectives import reduce_scatter as reduce_scatter
    from twister2_net.calls.collectives import scan as scan
    from twister2_net.calls.driving import Mark as Mark
    from twister2_net.calls.driving import NetOperator as NetOperator
    from twister2_net.calls.driving import operator as operator
    from twister2_net.calls.exchanges import count_by_value as count_by_value
    from twister2_net.calls.exchanges import join as join
    from twister2_net.calls.exchanges import keyed_gather as keyed_gather
    from twister2_net.calls.exchanges import keyed_partition as keyed_partition
    from twister2_net.calls.exchanges import keyed_reduce as keyed_reduce
    from twister2_net.calls.exchanges import partition as partition
    from twister2_net.calls.sets import aggregate as aggregate
    from twister2_net.calls.sets import co_group as co_group
    from twister2_net.calls.sets import cross as cross
    from twister2_net.calls.sets import distinct as distinct
    from twister2_net.calls.sets import number as number
    from twister2_net.calls.sets import sort as sort
    from twister2_net.calls.sets import zip as zip

_HOMES = {
    "Mark": "calls.driving",
    "NetOperator": "calls.driving",
    "operator": "calls.driving",
    "alltoall": "calls.collectives",
    "allgather": "calls.collectives",
    "allreduce": "calls.collectives",
    "barrier": "calls.collectives",
    "broadcast": "calls.collectives",
    "gather": "calls.collectives",
    "reduce": "calls.collectives",
    "reduce_scatter": "calls.collectives",
    "scan": "calls.collectives",
    "count_by_value": "calls.exchanges",
    "join": "calls.exchanges",
    "keyed_gather": "calls.exchanges",
    "keyed_partition": "calls.exchanges",
    "keyed_reduce": "calls.exchanges",
    "partition": "calls.exchanges",
    "aggregate": "calls.sets",
    "co_group": "calls.sets",
    "cross": "calls.sets",
    "distinct": "calls.sets",
    "number": "calls.sets",
    "sort": "calls.sets",
    "zip": "calls.sets",
}

__all__ = [
    "Mark",
    "NetOperator",
    "aggregate",
    "allgather",
    "allreduce",
    "alltoall",
    "barrier",
    "broadcast",
    "co_group",
    "count_by_value",
    "cross",
    "distinct",
    "gather",
    "join",
    "keyed_gather",
    "keyed_partition",
    "keyed_reduce",
    "number",
    "partition",
    "reduce",
    "reduce_scatter",
    "scan",
    "sort",
]
"""What ``import *`` gives: all but ``operator`` and ``zip``, which would hide a module and a function of Python."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'twister2_net' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"twister2_net.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOMES)
