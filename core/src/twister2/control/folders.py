"""Where things lie: the user's state folder with a folder per job, and the job's short-lived folder on every host."""

from __future__ import annotations

import os
import pathlib
import stat

from twister2.spec.errors import ResourceError, UsageError

SOCKET_PATH = 107
"""Longest path of a Unix socket on Linux, bytes."""
SOCKET_NAME = 32
"""Room for the names of sockets in a job's folder, bytes."""


def state_folder(configured: str = "") -> pathlib.Path:
    """The user's state folder: ``job.state_dir``, else ``$XDG_STATE_HOME/twister2`` (where that is absolute), else
    ``.local/state/twister2`` in :func:`~twister2.config.home.home_folder`.

    :raises UsageError: none of them is known, or it is that of a user whom nobody knows.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    if configured and not configured.startswith("~"):
        return pathlib.Path(configured).absolute()
    if not configured and os.path.isabs(base):
        return pathlib.Path(base) / "twister2"
    from twister2.config.home import home_folder  # workers know their folders, and need no configuration to start

    home = home_folder()
    if home is None:
        raise UsageError(
            "there is no folder for job records and logs",
            why=f"HOME is not set, and no user of this system has the number {os.getuid()}",
            remedy="set job.state_dir (TWISTER2__JOB__STATE_DIR) or XDG_STATE_HOME to an absolute path",
        )
    if configured == "~" or configured.startswith("~/"):
        return home / configured[2:]
    if not configured:
        return home / ".local" / "state" / "twister2"
    try:
        return pathlib.Path(configured).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(
            f"there is no folder {configured!r} for job records and logs",
            why=f"no user of this system is called {configured[1:].partition('/')[0]!r}",
            remedy="set job.state_dir to an absolute path, or to one that begins with ~/",
        ) from error


def job_folder(state: pathlib.Path, job_id: str) -> pathlib.Path:
    """Job record, tickets, event log and worker logs of one job."""
    return state / "jobs" / job_id


def runtime_path(job_id: str) -> pathlib.Path:
    """Where this job's short-lived folder on this host lies: below ``TMPDIR``, or below ``/tmp`` where the paths of
    the sockets in it would be too long.

    :raises ResourceError: there is no folder for temporary files.
    """
    import tempfile  # a client has other things to do first

    below = pathlib.Path(f"twister2-{os.getuid()}", job_id)
    try:
        path = pathlib.Path(tempfile.gettempdir(), below)
    except FileNotFoundError as error:
        raise ResourceError(
            "there is no folder for temporary files",
            why=error.strerror or str(error),
            remedy="free space, raise the limit on the size of files where there is one (ulimit -f), "
            "or set TMPDIR to a folder that can be written",
        ) from error
    return path if len(os.fsencode(path)) + SOCKET_NAME <= SOCKET_PATH else pathlib.Path("/tmp", below)


def runtime_folder(job_id: str) -> pathlib.Path:
    """A private folder (0700) of this job on this host, made when absent.

    :raises ResourceError: somebody else owns it, or it cannot be made.
    """
    folder = runtime_path(job_id)
    for path in (folder.parent, folder):
        make_private(path)
    return folder


def make_private(path: pathlib.Path, *, parents: bool = False) -> None:
    """Make a folder only this user may enter; one that is there already must be such a one.

    :raises ResourceError: it is not, or cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=parents, exist_ok=True)
        facts = path.lstat()
    except OSError as error:
        raise ResourceError(
            f"cannot make the folder {path}",
            why=error.strerror or str(error),
            remedy="set job.state_dir (records and logs) or TMPDIR (sockets) to a folder that can be written",
        ) from error
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise ResourceError(
            f"{path} is not a private folder of this user",
            why="it is owned by somebody else, is a link, or others may enter it",
            remedy="remove it, or set TMPDIR to another folder",
        )
