"""What this machine has to give: CPUs and memory, within the limits of this process's control group."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from twister2.spec.errors import ResourcesExceededError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.rm import ResourceGroup


def usable_cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0))


def free_memory_mb() -> int:
    """MiB that can be had without swapping; the tighter of the machine's and the control group's."""
    free_mb = _available_mb()
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            left = int(Path(limit).read_text("utf-8")) - int(Path(used).read_text("utf-8"))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
        free_mb = min(free_mb, max(0, left) >> 20)
    return free_mb


def _available_mb() -> int:
    with open("/proc/meminfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) >> 10
    return (os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) >> 20


def check_fit(groups: Sequence[ResourceGroup], worker_min_mb: int, oversubscribe: bool) -> list[str]:
    """Refuse what the free memory cannot hold; return warnings for what is merely slow or not provided.

    :raises ResourcesExceededError: the workers need more memory than is free, and ``oversubscribe`` is not set.
    """
    workers = sum(group.count for group in groups)
    need_mb = sum(group.count * max(group.memory_mb, worker_min_mb) for group in groups)
    free_mb = free_memory_mb()
    if need_mb > free_mb and not oversubscribe:
        each = ", ".join(sorted({f"{max(group.memory_mb, worker_min_mb)} MiB" for group in groups}))
        raise ResourcesExceededError(
            f"{workers:,} workers do not fit the free memory of this machine",
            why=f"they need at least {need_mb:,} MiB ({each} each) and {free_mb:,} MiB are free",
            remedy="ask for fewer workers or less memory, use a cluster, or set job.oversubscribe = true",
            where=f"host {os.uname().nodename}",
            details={"workers": workers, "need_mb": need_mb, "free_mb": free_mb},
        )
    warnings = []
    cpus = usable_cpus()
    wanted = sum(group.count * group.cpus for group in groups)
    if wanted > cpus:
        warnings.append(
            f"{workers:,} workers ask for {wanted:g} CPUs and this machine has {cpus} for them: they take turns"
        )
    if any(group.gpus for group in groups):
        warnings.append("GPUs are not assigned on this machine: every worker sees all of them")
    return warnings
