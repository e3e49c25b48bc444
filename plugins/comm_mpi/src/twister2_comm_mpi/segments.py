"""Shared segments of the MPI library, which stay behind when a process is killed before ``MPI_Finalize``."""

from __future__ import annotations

import contextlib
import os
import re

from twister2.spec.errors import NetworkError

SHARED = "/dev/shm"
NEEDED = 1_100_000
"""Bytes of the segment that MPICH makes on each host, for each of its ranks there."""

_MAPPED = re.compile(r"\s(/dev/shm/mpich\S+)$")


class Room:
    """Sees to it that MPICH finds the shared memory that it will touch; it takes no care, and gets a SIGBUS.

    Ranks of a host do not know how many they are, so each leaves a mark before it looks. The last of them sees all, and
    looks while the others wait in the library for it, before any has touched the segment.

    :param folder: the same for all workers of the host; :param attempt: text that only workers of this attempt share.
    """

    def __init__(self, folder: str, attempt: str, rank: int) -> None:
        self._folder, self._prefix = folder, f"mpi-{attempt}-"
        self._mark = os.path.join(folder, f"{self._prefix}{rank}")

    def check(self) -> None:
        """Look whether there is room for all ranks of this host that have come.

        :raises NetworkError: there is too little.
        """
        try:
            os.close(os.open(self._mark, os.O_WRONLY | os.O_CREAT, 0o600))
            count = sum(name.startswith(self._prefix) for name in os.listdir(self._folder))
            there = os.statvfs(SHARED)
        except OSError:
            return  # it is not known; where there is no such place the library takes another one
        free, needed = there.f_bavail * there.f_frsize, count * NEEDED
        if free < needed:
            total = there.f_blocks * there.f_frsize
            raise NetworkError(
                f"{SHARED} has too little room for MPI: {free >> 10} KiB of {total >> 10} KiB are free",
                why=f"the library shares memory there, {needed >> 10} KiB for {count} or more workers on this host",
                remedy=f"make {SHARED} larger (mount -o remount,size=..., --shm-size of a container) or empty it, "
                "or use comm = shm, tcp",
                where=SHARED,
            )

    def leave(self) -> None:
        """The library has what it needs, or never will: forget the mark."""
        with contextlib.suppress(OSError):
            os.unlink(self._mark)


def unlink() -> list[str]:
    """Remove the names of MPICH's segments that this process has mapped; the memory lives on until it is unmapped.

    To be called when all processes of the node have mapped them. MPICH does not mind that they are gone when it
    finalizes. Other libraries' segments are not touched: some are attached late, by name.

    :returns: the paths that were removed.
    """
    removed = []
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        paths = {match[1] for line in maps if (match := _MAPPED.search(line.rstrip("\n")))}
    for path in sorted(paths):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            removed.append(path)
    return removed
