"""Where files lie: on this machine's file systems, or in a store that fsspec knows. One small interface for both."""

from __future__ import annotations

import glob
import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO

import attrs

from twister2.spec.errors import DataAccessError, DataNotFoundError
from twister2.spec.files import sync_folder

BOOKKEEPING = frozenset({"_SUCCESS", "_temporary", "_metadata", "_common_metadata"})
"""Names that systems writing folders of parts use for themselves."""

WRITE_BUFFER = 1 << 18
FOLDER_RACES = 5
"""How often a folder is made again that others remove at the same time."""


def is_hidden(name: str) -> bool:
    """Whether a folder or a glob leaves out this file or folder unless it is named itself."""
    return name.startswith(".") or name in BOOKKEEPING


@attrs.frozen
class FoundFile:
    """A file of the input.

    :ivar path: identifies it on every worker. :ivar size: in bytes, 0 too when it is not known.
    :ivar whole: it can only be read from its beginning to its end: its size is not known, or the store gives no parts.
    """

    path: str
    size: int
    whole: bool = False

    @property
    def empty(self) -> bool:
        """Whether it is known to hold nothing."""
        return self.size == 0 and not self.whole


class Store(ABC):
    """What this plugin needs of a place for files. Paths are those that :func:`store_of` and the methods gave.

    Errors are those of the operating system (:class:`OSError`); callers know which path the user named.
    """

    @abstractmethod
    def match(self, path: str) -> list[FoundFile]:
        """Files that ``path`` names: itself, all in it when it is a folder (recursively), or matches of a glob.

        Sorted; hidden ones left out.

        :raises DataNotFoundError: nothing there; ``why`` says what was looked for.
        :raises DataAccessError: a file is there that this user may not read.
        """

    @abstractmethod
    def open(self, path: str, *, forward: bool = False) -> IO[bytes]:
        """Open for reading, seekable.

        :param forward: it is going to be read from its beginning to its end; seeking may be slow then.
        """

    @abstractmethod
    def create(self, path: str) -> IO[bytes]:
        """Create or truncate for writing, with the folders above it."""

    @abstractmethod
    def sync(self, file: IO[bytes]) -> None:
        """Make what was written durable, before the file is closed."""

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Size of a file, None when there is none."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Sorted names in a folder; empty when there is no such folder."""

    @abstractmethod
    def has_folder(self, path: str) -> bool:
        """Whether a folder is there, also an empty one."""

    @abstractmethod
    def replace(self, source: str, target: str) -> None:
        """Put a file in the place of another, or of none: at once on local file systems, by a copy elsewhere."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file if it is there."""

    @abstractmethod
    def remove_folder(self, path: str) -> None:
        """Remove a folder if it is there and empty."""

    @abstractmethod
    def sync_folder(self, path: str) -> None:
        """Make renames within a folder durable."""


class LocalStore(Store):
    """File systems of this machine; paths are absolute."""

    def match(self, path: str) -> list[FoundFile]:
        given = Path(path)
        if given.is_dir():
            found = self._walk(path)
            if not found and "_SUCCESS" not in self.names(path):
                raise nothing_there(path, "the folder holds no files (hidden ones do not count)")
        elif given.exists() or given.is_symlink():
            found = [path]
        elif glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))
            found = [each for each in matches if not os.path.isdir(each) and os.path.basename(each) not in BOOKKEEPING]
            if not found:
                folders = "the pattern matches only folders; append /** for the files in them"
                raise nothing_there(path, folders if matches else "the pattern matches no file")
        else:
            raise nothing_there(path, _first_missing(given))
        return [self._found(each) for each in found]

    def _walk(self, folder: str) -> list[str]:
        found = []
        for parent, folders, files in os.walk(folder, onerror=_reraise):
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            found += [os.path.join(parent, name) for name in files if not is_hidden(name)]
        return sorted(found)

    def _found(self, path: str) -> FoundFile:
        if not os.path.exists(path):
            raise nothing_there(path, f"a symbolic link to {os.readlink(path)}, which does not exist")
        if not os.path.isfile(path):
            raise _refused(path, f"{_kind(path)}, not a regular file; only those can be cut and read again")
        if not os.access(path, os.R_OK):
            raise _refused(path, "this user may not read it")
        return FoundFile(path, os.path.getsize(path))

    def open(self, path: str, *, forward: bool = False) -> IO[bytes]:
        return open(path, "rb", buffering=0)

    def create(self, path: str) -> IO[bytes]:
        folder = os.path.dirname(path)
        for _ in range(FOLDER_RACES):
            os.makedirs(folder, exist_ok=True)
            try:
                return open(path, "wb", buffering=WRITE_BUFFER)
            except FileNotFoundError:
                continue  # another task found the folder empty and removed it
        return open(path, "wb", buffering=WRITE_BUFFER)

    def sync(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())

    def size(self, path: str) -> int | None:
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def has_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def replace(self, source: str, target: str) -> None:
        os.replace(source, target)

    def remove(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)

    def remove_folder(self, path: str) -> None:
        try:
            os.rmdir(path)
        except OSError:
            return  # not there, or somebody else's files are in it

    def sync_folder(self, path: str) -> None:
        sync_folder(path)


def store_of(uri: str) -> tuple[Store, str]:
    """The store that holds ``uri``, and the path to use with it."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return LocalStore(), os.path.abspath(os.path.expanduser(uri))
    if scheme == "file":
        return LocalStore(), os.path.abspath("/" + rest.removeprefix("localhost").lstrip("/"))
    from twister2_data_file.remote import RemoteStore

    return RemoteStore(uri), uri.rstrip("/")


def _kind(path: str) -> str:
    mode = os.stat(path).st_mode
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def nothing_there(path: str, why: str) -> DataNotFoundError:
    """The error for a path without anything."""
    return DataNotFoundError(f"no such input: {path}", why=why, remedy="check the spelling", where=path)


def _refused(path: str, why: str) -> DataAccessError:
    return DataAccessError(f"cannot read {path}", why=why, remedy="leave it out, or make it readable", where=path)


def _first_missing(path: Path) -> str:
    """Which part of a path is the first that does not exist."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    return "there is no such file or folder" if missing == path else f"there is no folder {missing}"


def _reraise(error: OSError) -> None:
    raise error
