"""Taking the client's files away from a process: mount namespaces, where the kernel allows them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import uuid
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def set_death_signal(number: int) -> None:
    """Get a signal when the parent dies."""
    _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def join_network(name: str) -> None:
    """Put this process into a named network namespace.

    :raises OSError: there is none of that name, or the kernel does not let us.
    """
    number = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if _libc.setns(number, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {name}")
    finally:
        os.close(number)


def _unshare() -> bool:
    if _libc.unshare(CLONE_NEWNS) == 0:
        return True
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
        return False
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny", "ascii")
    try:
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", "ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", "ascii")
    except OSError:
        return False
    return True


def _mount(source: str, target: Path, kind: str | None, flags: int) -> bool:
    done: int = _libc.mount(source.encode(), str(target).encode(), kind and kind.encode(), flags, None)
    return done == 0


def isolate(own: Path, home: Path, hidden: tuple[Path, ...]) -> bool:
    """Show this process its ``own`` folder at ``home``, and empty folders in place of the ``hidden`` ones.

    :returns: whether the kernel let us; nothing has changed for others in any case.
    """
    if not _unshare() or not _mount("none", Path("/"), None, MS_REC | MS_PRIVATE):
        return False
    empty = [path for path in hidden if path.is_dir()]
    return _mount(str(own), home, None, MS_BIND) and all(_mount("tmpfs", path, "tmpfs", 0) for path in empty)


def become_host(name: str, folder: Path, temporary: Path) -> None:
    """Show this process, which is isolated, the memory, temporary files and identity of one pretended host.

    :param name: of the host. :param folder: what all its processes share; made by the first.
    :param temporary: where its files are seen.
    :raises OSError: the kernel does not let us; without it the processes were not on one host.
    """
    shared, files, identity = folder / "shm", folder / "tmp", folder / "boot_id"
    for path in (shared, files):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = folder / f"boot_id.{os.getpid()}"
    made.write_text(f"{uuid.uuid4()}\n", "ascii")
    with contextlib.suppress(FileExistsError):  # the first one's counts
        os.link(made, identity)
    made.unlink()
    targets = ((shared, Path("/dev/shm")), (files, temporary), (identity, Path("/proc/sys/kernel/random/boot_id")))
    for source, target in targets:
        if not _mount(str(source), target, None, MS_BIND):
            raise OSError(ctypes.get_errno(), f"cannot mount {source} on {target}")
    if _libc.unshare(CLONE_NEWUTS) != 0:
        raise OSError(ctypes.get_errno(), "cannot have a host name of its own")
    socket.sethostname(name)
