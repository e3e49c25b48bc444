"""The limit on open files: looked at before there are sockets, as libzmq ends the process that gets no descriptor."""

from __future__ import annotations

import os
import resource

from twister2.spec.errors import ResourceError

BASE, PER_PEER = 16, 8
"""Descriptors of this transport, at the most: while all peers are dialled."""


def check_descriptors(peers: int) -> None:
    """Find out whether so many peers can be talked to.

    :raises ResourceError: this process may not have that many more files open.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    there, needed = len(os.listdir("/proc/self/fd")), BASE + PER_PEER * peers
    if allowed != resource.RLIM_INFINITY and there + needed > allowed:
        raise ResourceError(
            f"too few descriptors are left to talk to {peers} peers",
            why=f"it takes up to {needed}; this process may have {allowed} files open, and has {there}",
            remedy=f"raise that limit before the job is submitted (ulimit -n {max(1024, 2 * (there + needed))})",
            where="limit on open files (ulimit -n)",
        )
