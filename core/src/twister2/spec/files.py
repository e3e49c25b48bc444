"""Files that outlive a crash of their host, for the core and for plugins that write some."""

from __future__ import annotations

import errno
import os

__all__ = ["sync_folder"]


def sync_folder(path: str) -> None:
    """Make durable what was made, renamed or removed in a folder, where its file system can.

    :raises OSError: it could not.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that syncs no folders
            raise
    finally:
        os.close(descriptor)
