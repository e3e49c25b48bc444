"""Harp: bulk-synchronous collectives for worker programs, on arrays, objects and tables of partitions.

::

    from twister2_harp import IN_PLACE, Harp

    def main(env):
        harp = Harp(env)
        harp.Allreduce(IN_PLACE, gradient)  # upper case: buffers, no copy
        losses = harp.gather(loss, root=0)  # lower case: any objects
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twister2_harp.buffers import IN_PLACE as IN_PLACE
    from twister2_harp.communicator import Harp as Harp
    from twister2_harp.events import Event as Event
    from twister2_harp.keyvalue import KeyValueTable as KeyValueTable
    from twister2_harp.schedulers import dynamic as dynamic
    from twister2_harp.schedulers import static as static
    from twister2_harp.table import Status as Status
    from twister2_harp.table import Table as Table

_HOMES = {
    "IN_PLACE": "buffers",
    "Harp": "communicator",
    "Event": "events",
    "KeyValueTable": "keyvalue",
    "dynamic": "schedulers",
    "static": "schedulers",
    "Status": "table",
    "Table": "table",
}

__all__ = ["IN_PLACE", "Event", "Harp", "KeyValueTable", "Status", "Table", "dynamic", "static"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'twister2_harp' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"twister2_harp.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
