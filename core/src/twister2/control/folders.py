"""Where things lie: the user's state folder with a folder per job, and the job's short-lived folder on every host."""

from __future__ import annotations

import os
import pathlib
import stat
import tempfile

from twister2.spec.errors import ResourceError


def state_folder(configured: str = "") -> pathlib.Path:
    """The user's state folder: ``job.state_dir``, else ``$XDG_STATE_HOME/twister2``, else ``~/.local/state/twister2``."""
    if configured:
        return pathlib.Path(configured).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return pathlib.Path(base) / "twister2"


def job_folder(state: pathlib.Path, job_id: str) -> pathlib.Path:
    """Job record, tickets, event log and worker logs of one job."""
    return state / "jobs" / job_id


def runtime_folder(job_id: str) -> pathlib.Path:
    """A private folder (0700) of this job on this host with a short path (sockets), made when absent.

    :raises ResourceError: somebody else owns it.
    """
    base = pathlib.Path(tempfile.gettempdir()) / f"twister2-{os.getuid()}"
    folder = base / job_id
    for path in (base, folder):
        path.mkdir(mode=0o700, exist_ok=True)
        facts = path.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise ResourceError(
                f"{path} is not a private folder of this user",
                why="it is owned by somebody else, is a link, or others may enter it",
                remedy="remove it, or set TMPDIR to another folder",
            )
    return folder
