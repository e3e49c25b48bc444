"""The limit on open files: looked at before there are sockets, as libzmq ends the process that gets no descriptor."""

from __future__ import annotations

import errno
import os
import resource

from twister2.spec.errors import ResourceError

EXHAUSTED = (errno.EMFILE, errno.ENFILE)

BASE = 16
"""Descriptors that are free when a transport opens: it takes up to 12."""
DIALLED = 12
"""Descriptors that are free when a peer is dialled: it takes up to 5, of which 2 are left when the handshake is over,
and while an address is slow one more for each of them, if there is one.
The others are for peers that dial this worker meanwhile, one each."""


def check_descriptors(needed: int, what: str) -> None:
    """Find out whether so many files more can be open.

    :param what: what they are for, as words that follow "to".
    :raises ResourceError: this process may not have that many more files open.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    there = len(os.listdir("/proc/self/fd")) - 1  # but for the one that lists them
    if allowed != resource.RLIM_INFINITY and there + needed > allowed:
        why = f"{needed} have to be free; this process may have {allowed} files open, and has {there}"
        raise too_few(what, why, there + needed)


def exhausted(error: OSError, what: str) -> ResourceError:
    """The error where the system has refused one more file (:data:`EXHAUSTED`)."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return too_few(what, f"{error.strerror}; this process may have {allowed} files open", allowed)


def too_few(what: str, why: str, files: int) -> ResourceError:
    """The error. :param files: that this process has, or would have open."""
    return ResourceError(
        f"too few descriptors are left to {what}",
        why=why,
        remedy=f"raise that limit before the job is submitted (ulimit -n {max(1024, 2 * files)})",
        where="limit on open files (ulimit -n)",
    )
