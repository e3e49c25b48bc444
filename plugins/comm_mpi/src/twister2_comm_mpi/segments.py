"""Shared segments of the MPI library, which stay behind when a process is killed before ``MPI_Finalize``."""

from __future__ import annotations

import contextlib
import os
import re

_MAPPED = re.compile(r"\s(/dev/shm/mpich\S+)$")


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
