"""The backend: one file per object, whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
from typing import TYPE_CHECKING, TypeVar

from twister2.spec.errors import StateError
from twister2.spec.files import sync_folder
from twister2.spec.state import StateStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

OBJECT = "@"
"""First character of an object's file name. Not a character of keys: a folder and an object never have one name."""

TEMPORARY = "~"
"""First character of a file that is being written."""

ATTEMPTS = 100
"""How often a write begins anew when its folder is removed, as empty, under its feet."""

_PART = re.compile(r"[a-zA-Z0-9._-]+")


class FileStore(StateStore):
    """Objects are files of a folder.

    Writers hold a lock on their temporary file, so that those of crashed writers are told from those in use.

    :param root: the folder, or its ``file://`` address. It is made at the first write.
    :raises StateError: the address is not one of a folder.
    """

    shared = True

    def __init__(self, root: str) -> None:
        if "://" in root and not root.startswith("file:///"):
            raise StateError(
                f"the store cannot be at {root}",
                why="the plugin 'file' keeps objects in a folder",
                remedy="give a folder (state.file.path, job.state_dir), or use another state plugin",
            )
        self._root = os.path.abspath(os.path.expanduser(root.removeprefix("file://")))
        self._swept: set[str] = set()

    # -- objects -------------------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)

        def publish(temporary: str) -> bool:
            os.replace(temporary, path)
            return True

        self._guard("store", key, lambda: self._write(path, data, publish))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._path(key)

        def publish(temporary: str) -> bool:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            finally:
                os.unlink(temporary)
            return True

        def store() -> bool:
            return not os.path.exists(path) and self._write(path, data, publish)

        return self._guard("store", key, store)

    def get(self, key: str) -> bytes | None:
        path = self._path(key)

        def read() -> bytes | None:
            try:
                with open(path, "rb") as file:
                    return file.read()
            except FileNotFoundError:
                return None

        return self._guard("read", key, read)

    def list(self, prefix: str) -> Iterator[str]:
        folder, _, _ = prefix.rpartition("/")
        if folder and not _valid(folder):
            return
        keys = self._guard("list", prefix, lambda: sorted(self._keys(folder)))
        yield from (key for key in keys if key.startswith(prefix))

    def delete(self, key: str) -> None:
        path = self._path(key)

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                self._prune(os.path.dirname(path))

        self._guard("delete", key, remove)

    def delete_all(self, prefix: str) -> int:
        count = super().delete_all(prefix)
        folder, _, _ = prefix.rpartition("/")
        if not folder or _valid(folder):

            def sweep() -> None:
                for path, _, _ in os.walk(os.path.join(self._root, folder), topdown=False):
                    _remove_leftovers(path)
                    self._prune(path)

            self._guard("delete", prefix, sweep)
        return count

    # -- files ---------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        if not _valid(key):
            raise StateError(
                f"{key!r} is not a key",
                why="a key is parts of letters, digits, '.', '_' and '-' joined by '/', and no part is '.' or '..'",
                remedy="use another key",
            )
        folder, _, name = key.rpartition("/")
        return os.path.join(self._root, folder, OBJECT + name)

    def _guard(self, doing: str, key: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except OSError as error:
            raise StateError(
                f"cannot {doing} {key!r}",
                why=f"{error.strerror or error}: {error.filename or self._root}",
                remedy=_REMEDIES.get(
                    error.errno or 0, "check the folder of the store (state.file.path, job.state_dir)"
                ),
                where=self._root,
                details={"key": key, "errno": error.errno},
            ) from error

    def _write(self, path: str, data: bytes, publish: Callable[[str], bool]) -> bool:
        folder = os.path.dirname(path)
        for remaining in reversed(range(ATTEMPTS)):
            try:
                self._make_folder(folder)
                if folder not in self._swept:
                    _remove_leftovers(folder)
                    self._swept.add(folder)
                done = _write_and_publish(folder, data, publish)
                sync_folder(folder)
                return done
            except FileNotFoundError:  # somebody removed the folder as empty, or took the new file for a left-over
                if not remaining:
                    raise
                self._swept.discard(folder)
        raise AssertionError("unreachable: the last round returns or raises")

    def _make_folder(self, folder: str) -> None:
        """Make a folder and those above it, each durable."""
        if os.path.isdir(folder):
            return
        above = os.path.dirname(folder)
        if above != folder:
            self._make_folder(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
            sync_folder(above)

    def _prune(self, folder: str) -> None:
        """Remove folders that are empty now, upwards, but not the store's own."""
        while folder != self._root and folder.startswith(self._root):
            try:
                os.rmdir(folder)
            except OSError:  # not empty, gone already, or not ours to remove
                return
            folder = os.path.dirname(folder)

    def _keys(self, folder: str) -> Iterator[str]:
        def failed(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):  # removed while we look
                raise error

        for path, _, names in os.walk(os.path.join(self._root, folder), onerror=failed):
            relative = os.path.relpath(path, self._root)
            before = "" if relative == "." else f"{relative}/"
            yield from (f"{before}{name[1:]}" for name in names if name[0] == OBJECT)


_REMEDIES = {
    errno.ENOSPC: "free some space there, or set job.state_dir (state.file.path) to a folder with more",
    errno.EDQUOT: "the quota is used up: free some space, or set job.state_dir (state.file.path) elsewhere",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EACCES: "make the folder readable and writable, or set job.state_dir (state.file.path) to one that is",
    errno.EPERM: "make the folder readable and writable, or set job.state_dir (state.file.path) to one that is",
    errno.EROFS: "the file system is read-only: set job.state_dir (state.file.path) to a folder elsewhere",
    errno.ENAMETOOLONG: "use shorter keys: a part may have 254 characters",
}


def _valid(key: str) -> bool:
    return all(_PART.fullmatch(part) and part not in (".", "..") for part in key.split("/"))


def _write_and_publish(folder: str, data: bytes, publish: Callable[[str], bool]) -> bool:
    temporary = os.path.join(folder, f"{TEMPORARY}{secrets.token_hex(8)}")
    number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: left-overs stay, nothing else changes
            fcntl.flock(number, fcntl.LOCK_EX)
        left = memoryview(data)
        while left:
            left = left[os.write(number, left) :]
        os.fsync(number)
        return publish(temporary)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(number)


def _remove_leftovers(folder: str) -> None:
    """Remove what crashed writers left: temporary files that nobody holds the lock of."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name[0] != TEMPORARY:
            continue
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # in use, gone, or no locks here
            number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
            finally:
                os.close(number)
