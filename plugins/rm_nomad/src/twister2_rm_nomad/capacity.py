"""What Nomad's nodes have: how fast a CPU is, and whether a job can ever run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import ResourcesExceededError, SubmissionRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2_rm_nomad.config import NomadConfig

UNKNOWN_MHZ = 1000.0
"""MHz of a CPU where the token may not look at nodes."""


@attrs.frozen
class Node:
    """A ready node's totals."""

    name: str
    version: str
    datacenter: str
    cpu: int
    cores: int
    memory_mb: int
    disk_mb: int
    drivers: frozenset[str]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Node:
        resources = data.get("NodeResources") or {}
        taken = data.get("ReservedResources") or {}
        cpu = resources.get("Cpu") or {}
        drivers = {name for name, info in (data.get("Drivers") or {}).items() if info.get("Healthy")}

        def left(kind: str, name: str) -> int:
            return int((resources.get(kind) or {}).get(name) or 0) - int((taken.get(kind) or {}).get(name) or 0)

        return cls(
            name=str(data.get("Name", "")),
            version=str(data.get("Version", "")),
            datacenter=str(data.get("Datacenter", "")),
            cpu=left("Cpu", "CpuShares"),
            cores=int(cpu.get("TotalCpuCores") or 0),
            memory_mb=left("Memory", "MemoryMB"),
            disk_mb=left("Disk", "DiskMB"),
            drivers=frozenset(drivers),
        )


def ready(nodes: Sequence[Mapping[str, Any]]) -> list[Node]:
    """The nodes that take jobs."""
    return [
        Node.of(node)
        for node in nodes
        if node.get("Status") == "ready" and node.get("SchedulingEligibility", "eligible") == "eligible"
    ]


def mhz_per_cpu(nodes: Sequence[Node]) -> float:
    """MHz of a core of the slowest node."""
    speeds = [node.cpu / node.cores for node in nodes if node.cores and node.cpu > 0]
    return min(speeds, default=UNKNOWN_MHZ)


def query(config: NomadConfig) -> dict[str, str]:
    """How to ask for the nodes in which jobs may run."""
    return {"resources": "true", **({"filter": f'NodePool == "{config.node_pool}"'} if config.node_pool else {})}


def suitable(nodes: Sequence[Node], config: NomadConfig) -> list[Node]:
    """Those in the datacenters that have the driver.

    :raises SubmissionRefusedError: there are none.
    """
    anywhere = any("*" in name for name in config.datacenters)
    here = [node for node in nodes if anywhere or node.datacenter in config.datacenters]
    if not here:
        known = ", ".join(sorted({node.datacenter for node in nodes})) or "none"
        raise SubmissionRefusedError(
            f"no node of Nomad is in datacenter {', '.join(config.datacenters)}",
            why=f"ready nodes are in: {known}",
            remedy="set rm.nomad.datacenters to those, or leave it at ['*']",
        )
    able = [node for node in here if config.driver in node.drivers]
    if not able:
        known = ", ".join(sorted(set().union(*(node.drivers for node in here)))) or "none"
        raise SubmissionRefusedError(
            f"no node of Nomad has the driver '{config.driver}'",
            why=f"drivers that work there: {known}",
            remedy="set rm.nomad.driver to one of them, or have it enabled in the agents' configuration",
        )
    return able


def check(spec: Mapping[str, Any], config: NomadConfig, nodes: Sequence[Node], *, oversubscribe: bool = False) -> None:
    """Refuse what could only wait for ever.

    :raises ResourcesExceededError: more than all nodes have together, or one copy more than any node.
    :raises SubmissionRefusedError: no node is in the datacenters, or has the driver.
    """
    able = suitable(nodes, config)
    if oversubscribe:
        return
    for what, key, option in (
        ("MHz of CPU", "CPU", "job.cpus or job.workers"),
        ("cores", "Cores", "job.cpus or job.workers"),
        ("MiB of memory", "MemoryMB", "job.memory_mb or job.workers"),
    ):
        has = {"CPU": [n.cpu for n in able], "Cores": [n.cores for n in able], "MemoryMB": [n.memory_mb for n in able]}
        sizes = [(g["Name"], g["Count"], g["Tasks"][0]["Resources"].get(key, 0)) for g in spec["TaskGroups"]]
        total, largest = sum(count * size for _, count, size in sizes), max(size for _, _, size in sizes)
        copies = sum(count for _, count, _ in sizes)
        if largest > max(has[key]):
            raise ResourcesExceededError(
                f"a copy asks for {largest:,} {what}",
                why=f"the largest node has {max(has[key]):,}",
                remedy=f"ask for less: {option}; or for other nodes (rm.nomad.datacenters, rm.nomad.node_pool)",
            )
        if total > sum(has[key]):
            raise ResourcesExceededError(
                f"{copies:,} copies ask for {total:,} {what}",
                why=f"{len(able)} nodes have {sum(has[key]):,} together",
                remedy=f"ask for less: {option}; or for other nodes (rm.nomad.datacenters, rm.nomad.node_pool)",
            )
