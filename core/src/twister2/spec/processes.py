"""Processes of this host, for the core and for plugins that start some."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

POLL_S = 0.002
"""How often it is looked where the system cannot tell."""


def await_ends(pids: Iterable[int], timeout_s: float) -> None:
    """Wait until all these processes have ended (reaped or not), at most ``timeout_s`` seconds. They need not be
    children of this one.
    """
    deadline = time.monotonic() + timeout_s
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        except (OSError, AttributeError):  # no descriptors left, say, or a Python for systems that do not have it
            while _runs(pid) and time.monotonic() < deadline:
                time.sleep(POLL_S)
            continue
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            poller.poll(max(0, int((deadline - time.monotonic()) * 1000)))
        finally:
            os.close(handle)


def _runs(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False
