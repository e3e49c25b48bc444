"""Shared memory that a transport's library left behind when its process was killed.

A library that is killed between making a segment and removing its name (inside ``MPI_Init``, say) leaves a file in
``/dev/shm`` that nobody will ever remove. Transports declare what such files are called
(:attr:`twister2.spec.comm.TransportFacts.segments`). The names are not enough: another job of the same user has the
same ones. So a file goes only when no process has it open or mapped any more, as is so when all processes of its job
on this host have ended; the last supervisor finds it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
import time
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLDER = "/dev/shm"
File: TypeAlias = tuple[int, int]
"""Device and inode."""

_UNSEEN = (FileNotFoundError, ProcessLookupError, PermissionError)
_SLACK_S = 1.0
"""Clocks of files are coarser than that of processes."""

_FIRST_NAMESPACES = ("ipc:[4026531839]", "pid:[4026531836]")
"""The kernel's own names of a host's first namespaces, of shared memory and of processes."""


class Segments:
    """What matches ``patterns`` and was made from now on, or since a time of ``time.time()``."""

    def __init__(self, patterns: Sequence[str], *, folder: str = FOLDER, since: float | None = None) -> None:
        self._patterns, self._folder = tuple(patterns), folder
        self._since = (time.time() if since is None else since) - _SLACK_S

    def sweep(self) -> list[str]:
        """Remove what no process uses any more; never raises, does nothing when that cannot be known.

        :returns: paths of what was removed.
        """
        # In this order: who makes or attaches a segment opens it, maps it, and only then may close it.
        with contextlib.suppress(OSError):
            left = self._candidates()
            if left and _sees_all_users():
                for pid in _own_processes():
                    for file in (*_opened(pid), *_mapped(pid)):
                        left.pop(file, None)
                return [path for file, path in left.items() if _removed(path, file)]
        return []

    def _candidates(self) -> dict[File, str]:
        """Paths by file."""
        found: dict[File, str] = {}
        if self._patterns:
            for name in os.listdir(self._folder):
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in self._patterns):
                    path = os.path.join(self._folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        facts = os.lstat(path)
                        ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
                        if ours and facts.st_ctime >= self._since:
                            found[facts.st_dev, facts.st_ino] = path
        return found


def _sees_all_users() -> bool:
    """Whether all processes that may share this memory are seen: not in a container that has the host's memory and
    processes of its own.
    """
    memory, processes = (os.readlink(f"/proc/self/ns/{kind}") for kind in ("ipc", "pid"))
    return memory != _FIRST_NAMESPACES[0] or processes == _FIRST_NAMESPACES[1]


def _own_processes() -> Iterator[int]:
    """Process ids of this user; others cannot open what is this user's, but for root, who has no business there."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if os.stat(f"/proc/{name}").st_uid == os.geteuid():
                    yield int(name)


def _opened(pid: int) -> Iterator[File]:
    """What a process has open. One that may not be looked at has more rights than this one: it is of no job."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(*_UNSEEN):
        for name in os.listdir(folder):
            with contextlib.suppress(*_UNSEEN):
                facts = os.stat(f"{folder}/{name}")
                yield facts.st_dev, facts.st_ino


def _mapped(pid: int) -> Iterator[File]:
    """What a process has mapped."""
    with contextlib.suppress(*_UNSEEN), open(f"/proc/{pid}/maps", "rb") as maps:
        for line in maps:
            _, _, _, device, inode, *_ = line.split(None, 5)
            major, minor = device.split(b":")
            yield os.makedev(int(major, 16), int(minor, 16)), int(inode)


def _removed(path: str, file: File) -> bool:
    with contextlib.suppress(FileNotFoundError):
        facts = os.lstat(path)
        if (facts.st_dev, facts.st_ino) == file:
            os.unlink(path)
            return True
    return False
