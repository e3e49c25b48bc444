"""The short-lived folder of one copy of a slot: package, and the scratch folder of its program."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
from typing import TYPE_CHECKING

from twister2.control.folders import make_private, runtime_folder
from twister2.spec.errors import ResourceError

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
        :raises ResourceError: it cannot be made.
        """
        for number in itertools.count():  # another container may have a process of the same number
            self.path = job / f"s{slot}.{os.getpid()}.{number}"
            make_private(self.path)
            if self._hold():
                break
        for before in self.path.iterdir():  # of a process of the same number that has gone
            shutil.rmtree(before, ignore_errors=True)
        for other in job.glob(f"s{slot}.*"):
            if other != self.path and _left(other):
                shutil.rmtree(other, ignore_errors=True)

    def _hold(self) -> bool:
        """Hold the folder; False when another process does."""
        self._held = -1
        with contextlib.suppress(OSError):  # a file system without locks: that its process is there counts
            self._held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._held)
                return False
        return True

    @classmethod
    def of_job(cls, job_id: str, slot: int) -> SlotFolder:
        """In the job's folder on this host.

        :raises ResourceError: it cannot be made.
        """
        try:
            return cls(runtime_folder(job_id), slot)
        except ResourceError:  # the last other copy here may just have removed the job's folder
            return cls(runtime_folder(job_id), slot)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._held >= 0:
            os.close(self._held)


def _left(folder: Path) -> bool:
    """Whether nobody holds a folder. A process that has just made it, and comes to hold it, is there at least."""
    if os.path.exists(f"/proc/{folder.name.split('.')[1]}"):
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
