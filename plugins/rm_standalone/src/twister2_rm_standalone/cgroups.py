"""Control groups of Linux, version 1 or 2: limits on the CPUs and the memory of workers, where they may be set."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
PERIOD_US = 100_000
CONTROLLERS = {"cpus": "cpu", "memory": "memory"}
FILES = {"cpus": ("cpu.max", "cpu.cfs_quota_us"), "memory": ("memory.max", "memory.limit_in_bytes")}
"""The file of each limit, of version 2 and 1."""


class NotAllowedError(Exception):
    """Why limits cannot be set here, in words."""


def find(limits: Sequence[str], *, root: Path = ROOT, own: Path = OWN, enable: bool = True) -> dict[str, str]:
    """For each of these limits (``cpus``, ``memory``) the folder in which groups of workers can be made.

    :param enable: hand controllers down to groups that are made there, where that is to be done first.
    :raises NotAllowedError: there is none for one of them.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text("utf-8").splitlines()]
    except OSError as error:
        raise NotAllowedError(f"this system has no control groups ({error.strerror})") from None
    paths = {name: path.lstrip("/") for _, names, path in lines for name in names.split(",")}
    if (root / "cgroup.controllers").exists():
        return dict.fromkeys(limits, str(_unified(root, paths.get("", ""), limits, enable)))
    return {limit: str(_hierarchy(root, paths, limit)) for limit in limits}


def outlook(*, root: Path = ROOT, own: Path = OWN) -> dict[str, str]:
    """For each limit why it cannot be set here; empty when it can. Changes nothing."""
    found = {}
    for limit in CONTROLLERS:
        try:
            find([limit], root=root, own=own, enable=False)
            found[limit] = ""
        except NotAllowedError as error:
            found[limit] = str(error)
    return found


def _unified(root: Path, path: str, limits: Sequence[str], enable: bool) -> Path:
    """Of version 2: the own group or the nearest above that may have further ones below, and hands down what is needed.
    To move a process one must be allowed to write there, too.
    """
    here = root / path if (root / path).is_dir() else root
    wanted = [CONTROLLERS[limit] for limit in limits]
    why = f"{here} and the groups above it are not this user's"
    for folder in (here, *here.parents):
        if _may_write(folder / "cgroup.procs") and _may_write(folder):
            problem = _handed_down(folder, wanted, is_root=folder == root, enable=enable)
            if not problem:
                return folder
            why = problem
        if folder == root:
            break
    raise NotAllowedError(why)


def _handed_down(folder: Path, wanted: Sequence[str], *, is_root: bool, enable: bool) -> str:
    """Why a group does not hand these controllers down to those in it; empty when it does."""
    try:
        missing = set(wanted) - set((folder / "cgroup.controllers").read_text("utf-8").split())
        if missing:
            return f"the system gives {folder} no controller {', '.join(sorted(missing))}"
        control = folder / "cgroup.subtree_control"
        more = [name for name in wanted if name not in control.read_text("utf-8").split()]
        if more and not is_root and (folder / "cgroup.procs").read_text("utf-8").strip():
            return f"{folder} has processes of its own, and cannot hand its controllers down"
        if more and not _may_write(control):
            return f"{control} is not this user's"
        if more and enable:
            control.write_text(" ".join(f"+{name}" for name in more), "utf-8")
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"
    return ""


def _hierarchy(root: Path, paths: Mapping[str, str], limit: str) -> Path:
    """Of version 1: the own group in the hierarchy of the limit's controller."""
    name = CONTROLLERS[limit]
    mounted = next((path for path in root.glob("*") if name in path.name.split(",") and path.is_dir()), None)
    if mounted is None:
        raise NotAllowedError(f"no control groups for {limit} are mounted below {root}")
    folder = mounted / paths.get(name, "")
    folder = folder if folder.is_dir() else mounted  # seen from inside of a container
    if not _may_write(folder):
        raise NotAllowedError(f"{folder} is not this user's")
    return folder


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK)


def name_of(job_id: str, slot: int) -> str:
    """The group of a copy."""
    return f"twister2-{job_id}-{slot}"


def make(places: Mapping[str, str], name: str, cpus: float, memory_mb: int) -> list[str]:
    """Make a group, or give it these limits; returns its folders, one for each hierarchy.

    :param places: as :func:`find` has found them. :param memory_mb: MiB, 0 for no limit.
    :raises OSError: it cannot be.
    """
    folders = []
    for limit, place in places.items():
        folder = Path(place, name)
        folder.mkdir(exist_ok=True)
        second = (folder / FILES[limit][0]).exists()
        if limit == "cpus" and second:
            _write(folder / "cpu.max", f"{round(cpus * PERIOD_US)} {PERIOD_US}")
        elif limit == "cpus":
            _write(folder / "cpu.cfs_period_us", str(PERIOD_US))
            _write(folder / "cpu.cfs_quota_us", str(round(cpus * PERIOD_US)))
        elif memory_mb:
            _write(folder / FILES[limit][0 if second else 1], str(memory_mb << 20))
            with contextlib.suppress(OSError):  # not there without an account of swap
                swap = ("memory.swap.max", "0") if second else ("memory.memsw.limit_in_bytes", str(memory_mb << 20))
                _write(folder / swap[0], swap[1])
        folders.append(str(folder))
    return list(dict.fromkeys(folders))


def enter(folders: Sequence[str]) -> None:
    """Move this process into a group; what it starts from now on is in it, too."""
    for folder in folders:
        _write(Path(folder, "cgroup.procs"), "0")


def remove(places: Mapping[str, str], name: str) -> None:
    """Remove a group without processes. Idempotent."""
    for place in places.values():
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(place, name))


def _write(path: Path, text: str) -> None:
    number = os.open(path, os.O_WRONLY)  # a file that is not there is not to be made
    try:
        os.write(number, text.encode())
    finally:
        os.close(number)
