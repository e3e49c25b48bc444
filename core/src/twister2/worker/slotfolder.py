"""The short-lived folder of one copy of a slot: package, and the scratch folder of its program."""

from __future__ import annotations

import fcntl
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class SlotFolder:
    """A folder of this process alone: another copy of its slot may still be ending on this host, and removes its own.

    What copies have left that were killed is removed when the next one comes. A folder is held (flock) by its process.

    :ivar path: of the folder.
    """

    def __init__(self, job: Path, slot: int) -> None:
        """
        :param job: the job's folder on this host.
        :raises OSError: it cannot be made.
        """
        self.path = job / f"s{slot}.{os.getpid()}"
        self.path.mkdir(mode=0o700, exist_ok=True)
        self._held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for other in job.glob(f"s{slot}.*"):
            if other != self.path and _left(other):
                shutil.rmtree(other, ignore_errors=True)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._held)


def _left(folder: Path) -> bool:
    """Whether nobody holds a folder. A process that has just made it, and comes to hold it, is there at least."""
    if os.path.exists(f"/proc/{folder.name.rpartition('.')[2]}"):
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
