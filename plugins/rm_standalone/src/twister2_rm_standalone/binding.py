"""Which CPUs each worker of a host is bound to."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

NODES = Path("/sys/devices/system/node")


def numa_nodes(usable: Collection[int] | None = None, folder: Path = NODES) -> list[list[int]]:
    """The CPUs that this process may use, by NUMA node; in one node where the system tells of none."""
    free = set(os.sched_getaffinity(0) if usable is None else usable)
    nodes = []
    for path in sorted(folder.glob("node[0-9]*"), key=lambda path: int(path.name[4:])):
        try:
            cpus = free & parse((path / "cpulist").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if cpus:
            nodes.append(sorted(cpus))
            free -= cpus
    return [*nodes, sorted(free)] if free else nodes


def parse(text: str) -> set[int]:
    """``"0-3,8"`` as numbers.

    :raises ValueError: it is no such list.
    """
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if part:
            found.update(range(int(first), int(last or first) + 1))
    return found


def bindings(cpus: Mapping[int, float], nodes: Sequence[Sequence[int]], how: str) -> dict[int, list[int]]:
    """The CPUs of each slot, the same whenever it is asked for.

    :param cpus: what each slot asks for; what comes at the end changes nothing for those before.
    :param how: ``cpus``: CPUs of its own, as many as it asks for, of one node where they fit into one; when all are
        given away, it begins anew. ``numa``: all CPUs of one node, the one with the least to do.
    """
    if how == "numa":
        return _by_node(cpus, nodes)
    found: dict[int, list[int]] = {}
    free = [[*node] for node in nodes]
    total = sum(map(len, nodes))
    for slot, wanted in cpus.items():
        count = min(max(1, math.ceil(wanted)), total)
        if sum(map(len, free)) < count:
            free = [[*node] for node in nodes]
        fitting = next((node for node in free if len(node) >= count), None)
        taken: list[int] = []
        for node in [fitting] if fitting is not None else free:
            while node and len(taken) < count:
                taken.append(node.pop(0))
        found[slot] = taken
    return found


def _by_node(cpus: Mapping[int, float], nodes: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    load = [0.0] * len(nodes)
    for slot, wanted in cpus.items():
        best = min(range(len(nodes)), key=lambda number: (load[number] + wanted) / len(nodes[number]))
        load[best] += wanted
        found[slot] = [*nodes[best]]
    return found
