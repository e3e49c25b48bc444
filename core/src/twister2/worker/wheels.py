"""Wheels that were shipped with a job: unpacked once per node, by their hash, and put before what is installed.

What lies there is bounded: who unpacks one more removes those that were used longest ago, when all together have grown
past :data:`KEPT_BYTES`. A process holds a shared lock on what it uses, so that nothing is taken away from under a job.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import sys
import tempfile
import time
import zipfile
from typing import TYPE_CHECKING

from twister2.spec.errors import PackageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2.control.package import Manifest

FOLDER = "twister2-wheels"
"""Where wheels lie in a package."""
KEPT_BYTES = 4 << 30
UNPACKING = "unpacking-"
"""How folders begin that are being made, or removed."""
LEFT_S = 3600.0
"""A folder that nobody has changed for so long while it was being made belongs to a process that was killed."""

_held: list[int] = []
"""Descriptors of what this process uses, locked until it ends."""


def use(package: pathlib.Path, manifest: Manifest) -> None:
    """Make the shipped wheels importable in this process.

    :param package: where the package was unpacked.
    :raises PackageError: one cannot be unpacked.
    """
    places: list[str] = []
    for name, (_, digest) in manifest.files.items():
        if name.startswith(f"{FOLDER}/"):
            places += map(str, _importable(_unpacked(package / name, str(digest))))
    sys.path[:0] = places


def _importable(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folders of a wheel that belong on the path: itself, and what it has for site-packages apart."""
    yield folder
    yield from sorted(folder.glob("*.data/*lib"))


def _unpacked(wheel: pathlib.Path, digest: str) -> pathlib.Path:
    problem: Exception | None = None
    for root in (cache(), wheel.parent):  # the home of a container may be read-only,
        if not root.is_absolute():  # and its user may have none
            continue
        folder = root / digest
        try:
            fresh = not _hold(folder)
            while fresh:
                _unpack(wheel, folder)
                if _hold(folder):
                    break
            if fresh and root == cache():
                trim(root)
            return folder
        except (OSError, zipfile.BadZipFile) as error:
            problem = error
    raise PackageError(
        f"the wheel {wheel.name} of job.wheels cannot be unpacked",
        why=f"{type(problem).__name__}: {problem}",
        remedy="check that the disk has space there, and that the file is a wheel",
        where=f"host {os.uname().nodename}, {cache()}",
    ) from problem


def _unpack(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    """As a whole: other workers of this node may do the same, and one is as good as the other."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=UNPACKING, dir=folder.parent)
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(temporary)  # names that lead out of it are made to stay in
        os.rename(temporary, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _hold(folder: pathlib.Path) -> bool:
    """Keep what lies there from being removed while this process lives; whether it lies there."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    with contextlib.suppress(OSError):  # a file system without locks: nothing is removed there either
        fcntl.flock(number, fcntl.LOCK_SH)
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(number), os.stat(folder)):  # else it was removed before the lock was had
            _held.append(number)
            with contextlib.suppress(OSError):
                os.utime(folder)
            return True
    os.close(number)
    return False


def trim(root: pathlib.Path, kept_bytes: int = KEPT_BYTES) -> None:
    """Remove what was used longest ago and is in no use, until the rest has at most so many bytes. What cannot be
    removed stays.
    """
    with contextlib.suppress(OSError):
        folders = [(path.stat().st_mtime, path) for path in root.iterdir() if path.is_dir()]
        for changed, path in folders:
            if path.name.startswith(UNPACKING) and time.time() - changed > LEFT_S:
                shutil.rmtree(path, ignore_errors=True)
        kept = sorted((pair for pair in folders if not pair[1].name.startswith(UNPACKING)), reverse=True)
        total = 0
        for _, path in kept:
            total += _size(path)
            if total > kept_bytes:
                _remove(path)


def _size(folder: pathlib.Path) -> int:
    """Bytes of the files in a folder."""
    found = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += os.lstat(os.path.join(where, name)).st_size
    return found


def _remove(folder: pathlib.Path) -> None:
    """Remove one that nobody uses: as a whole, under another name first."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = tempfile.mkdtemp(prefix=UNPACKING, dir=folder.parent)
            os.rename(folder, os.path.join(gone, folder.name))
            shutil.rmtree(gone, ignore_errors=True)
        finally:
            os.close(number)


def cache() -> pathlib.Path:
    """The folder of unpacked wheels of this user on this host; to be removed at will when no job runs."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "twister2" / "wheels"
