"""Shared memory that is left behind, as told from that of other tests of this machine, which run at the same time."""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from twister2_testkit.processes import ended, process_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from twister2.spec.comm import CommSpec

FOLDER = Path("/dev/shm")

_STAND_IN = re.compile(r"_of_process_(\d+)_")


def stand_in(prefix: str, pid: int) -> Path:
    """A path for a file that a test makes in the place of a segment: of a process that nobody accuses of having left it
    while it lives.

    :param prefix: of the name, as a library begins it: ``mpich_shm``.
    """
    return FOLDER / f"{prefix}_of_process_{pid}_0"


def left_behind(patterns: Sequence[str] = ("*",)) -> set[str]:
    """Paths of what no process has open or mapped, and no living process has as its stand-in.

    :param patterns: of names, as of :mod:`fnmatch`.
    """
    # in this order: who makes a segment opens it, maps it, and only then may close it
    names = [name for name in os.listdir(FOLDER) if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    left = {str(FOLDER / name) for name in names if not _is_kept(name)}
    for pid in process_ids() if left else ():
        left -= _opened(pid)
        left -= _mapped(pid)
    return {name for name in left if os.path.exists(name)}


def is_named(path: str, patterns: Iterable[str]) -> bool:
    """Whether a file's name matches one of these patterns (of :mod:`fnmatch`)."""
    name = os.path.basename(path)
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@functools.cache
def segments_of_transports() -> Mapping[str, tuple[str, ...]]:
    """What transports declare that their segments are called, by name of the installed transport."""
    from twister2.host import PluginHost

    host = PluginHost()
    found = {record.name: cast("CommSpec", host.load("comm", record.name).plugin) for record in host.discover("comm")}
    return {name: plugin.facts.segments for name, plugin in found.items()}


def transports_of(jobs: Iterable[Path]) -> set[str]:
    """The transports that jobs were given, by their folders: all that are installed, where one has no record."""
    found: set[str] = set()
    for folder in jobs:
        try:
            record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            found.update(record["resolved"]["tables"]["job"]["comm"])
        except (OSError, ValueError, KeyError):
            return set(segments_of_transports())
    return found


def _is_kept(name: str) -> bool:
    owner = _STAND_IN.search(name)
    return owner is not None and not ended(int(owner[1]))


def _opened(pid: int) -> set[str]:
    found: set[str] = set()
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except OSError:
        return found
    for number in numbers:
        try:
            found.add(os.readlink(f"{folder}/{number}"))
        except OSError:
            continue
    return found


def _mapped(pid: int) -> set[str]:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
            return {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if "/dev/shm/" in line}
    except OSError:
        return set()
