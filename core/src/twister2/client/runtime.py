"""Short-lived folders on this host whose job lives in one process: workers that are threads.

Nobody is left to remove such a folder when the program kills that process. So the process holds a lock in it, which
ends with the process however that ends, and the next command of the user removes folders whose lock is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING

from twister2.control.folders import runtime_folder, runtime_path
from twister2.spec.errors import ResourceError

if TYPE_CHECKING:
    import pathlib

OWNER = "owner"
EMPTY_S = 3600.0
"""Age of an empty folder that a client left which was killed right after it had made it."""


def own(job_id: str) -> int:
    """Make a job's folder, and mark it as this process's; a descriptor to be closed when the job has ended."""
    folder = runtime_folder(job_id)
    unlocked = folder / f".{OWNER}"
    descriptor = os.open(unlocked, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):  # no locks on this file system: then there is no mark, and no sweep either
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.rename(folder / OWNER)  # who sees the mark sees it locked
    return descriptor


def sweep() -> list[pathlib.Path]:
    """Remove this user's folders on this host whose process has gone; those that were removed. Never raises."""
    swept: list[pathlib.Path] = []
    with contextlib.suppress(OSError, ResourceError):
        below = runtime_path("x").parent
        facts = below.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            return swept
        for mark in below.glob(f"*/{OWNER}"):
            with contextlib.suppress(OSError):
                if _is_free(mark):
                    shutil.rmtree(mark.parent, ignore_errors=True)
                    swept.append(mark.parent)
        for folder in below.iterdir():
            with contextlib.suppress(OSError):  # not empty: somebody's
                if time.time() - folder.stat().st_mtime > EMPTY_S:
                    folder.rmdir()
                    swept.append(folder)
    return swept


def _is_free(mark: pathlib.Path) -> bool:
    descriptor = os.open(mark, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
