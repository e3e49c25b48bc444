"""What is said of the copies of a job, and of the place where they run."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twister2_rm_standalone import procfs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.spec.rm import ResourceGroup
    from twister2_rm_standalone.folder import Copy, Journal


def listed(group: ResourceGroup) -> list[Any]:
    """A group as the record of a job has it."""
    return [group.name, group.count, group.cpus, group.memory_mb, group.disk_mb, group.gpus]


def runs(copy: Copy) -> bool:
    """Whether a copy has not ended."""
    return copy.code is None and procfs.alive(copy.pid, copy.start)


def over(journal: Journal) -> bool:
    """Whether nothing of a job runs."""
    return not any(runs(copy) for copy in journal.copies.values()) and not any(
        procfs.alive(pid, start) for pid, start in journal.launchers
    )


def words(copy: Copy, running: bool) -> str:
    """The state of a slot, as :class:`twister2.spec.rm.JobStatus` has it."""
    if running:
        return "running"
    if copy.code is None:
        return "lost (its launcher was killed)"
    if copy.code > 128:
        try:
            return f"exited {copy.code} ({signal.Signals(copy.code - 128).name})"
        except ValueError:
            pass
    return f"exited {copy.code}"


def elsewhere(place: Mapping[str, str]) -> str:
    """Why processes of that place cannot be seen from here; empty when they can."""
    here = procfs.place()
    if place["host"] != here["host"]:
        return f"it runs on host {place['host']}, this is {here['host']}"
    if place["boot"] != here["boot"]:
        return f"{here['host']} was started anew since"
    if place["namespace"] != here["namespace"]:
        return "it runs in another container of this host"
    return ""


def started_anew(place: Mapping[str, str]) -> bool:
    """Whether this machine was started anew since."""
    here = procfs.place()
    return place["host"] == here["host"] and place["boot"] != here["boot"]


def tail(logs: str) -> str:
    """The last line that the launcher has written."""
    try:
        lines = Path(logs, "launcher.log").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "the launcher ended without a word"


def wants(groups: Sequence[ResourceGroup], slots: Sequence[int] = ()) -> dict[str, list[float]]:
    """CPUs and MiB of memory of each slot.

    :param slots: the slots, through the groups in their order; from 0 when none are given.
    """
    each = [group for group in groups for _ in range(group.count)]
    return {
        str(slot): [group.cpus, group.memory_mb] for slot, group in zip(slots or range(len(each)), each, strict=True)
    }
