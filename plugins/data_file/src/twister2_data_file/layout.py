"""Names in an output folder: final parts, hidden temporary files, the marker of a finished output.

A folder of parts holds ``part-00000.csv`` (task 0) and so on, and ``_SUCCESS`` once it is complete. A checkpoint after
the first adds its number to the names. Temporary files lie in a hidden folder of the same sink beside their targets,
so that one rename on the same file system makes them visible.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import DataAccessError, UsageError
from twister2.spec.uris import without_secrets
from twister2_data_file.stores import Store, is_hidden, store_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twister2.spec.data import WriteRequest

SUCCESS = "_SUCCESS"
NEW = "new"
_TEMPORARY = re.compile(r"a(\d+)-t(\d+)-c(\d+)(?:-u)?\.tmp")
_PART = re.compile(r"part-\d{5,}(-c\d{6,})?\.(txt|csv|jsonl|parquet|arrows?|bin)(\.(gz|bz2|xz|zst))?")


class Layout:
    """Where one write request puts what.

    :param ending: of the names of parts, e.g. ``".csv.gz"``.
    :ivar store: the store. :ivar target: the folder of parts, or the single file; :ivar shown: for people.
    :ivar folder: the folder that holds the final files. :ivar staging: the hidden folder.
    """

    def __init__(self, request: WriteRequest, *, single_file: bool, ending: str) -> None:
        self.store: Store
        self.store, self.target = store_of(request.uri)
        self.shown = without_secrets(self.target)
        self._ending = ending
        self.request = request
        self.single_file = single_file
        mark = hashlib.blake2b(request.key.encode(), digest_size=8).hexdigest()
        if single_file:
            if request.n_tasks != 1:
                raise UsageError(
                    f"single_file: {without_secrets(request.uri)} would be written by {request.n_tasks} tasks",
                    why="one file is written by one task",
                    remedy="gather the records to one task first, or write a folder of parts",
                )
            self.folder, _, name = self.target.rpartition("/")
            self.staging = f"{self.folder}/.{name}.t2-{mark}"
        else:
            self.folder = self.target
            self.staging = f"{self.folder}/.t2-{mark}"

    def temporary(self, checkpoint: int) -> str:
        """The temporary file of this task and attempt for a checkpoint."""
        return f"{self.staging}/a{self.request.attempt}-t{self.request.task}-c{checkpoint}.tmp"

    def final(self, checkpoint: int) -> str:
        """The final file of this task for a checkpoint."""
        if self.single_file:
            return self.target
        number = f"-c{checkpoint:06d}" if checkpoint > 1 else ""
        return f"{self.folder}/part-{self.request.task:05d}{number}{self._ending}"

    @property
    def new_mark(self) -> str:
        """A file that says that this write has made the folder; it goes with the folder, or with the commit."""
        return f"{self.staging}/{NEW}"

    def leave(self, *, made_folder: bool = False) -> None:
        """Remove the hidden folder, and the folder if this write has made it, unless somebody's files are in them.

        :param made_folder: it has, whether or not the mark could be written.
        """
        new = made_folder
        if self.store.names(self.staging) == [NEW]:
            new = True
            self.store.remove(self.new_mark)
        self.store.remove_folder(self.staging)
        if new:
            self.store.remove_folder(self.folder)

    def leftovers(self, *, all_tasks: bool) -> list[str]:
        """Temporary files of older attempts: of this task, or of all."""
        found = []
        for name in self.store.names(self.staging):
            match = _TEMPORARY.fullmatch(name)
            if match and int(match[1]) < self.request.attempt and (all_tasks or int(match[2]) == self.request.task):
                found.append(f"{self.staging}/{name}")
        return found

    def check_free(self, *, overwrite: bool) -> None:
        """See that nothing is at the target, unless it is to be replaced or this sink's own from before a crash.

        :raises DataAccessError: there is.
        """
        if self.single_file:
            if self.store.has_folder(self.target):
                raise _exists(self.target, "it is a folder, but one file is to be written", _INSTEAD_OF_FOLDER)
            if not overwrite and self.request.attempt <= 1 and self.store.size(self.target) is not None:
                raise _exists(self.target, "the file exists", _OVERWRITE)
            return
        if self.store.size(self.target) is not None:
            raise _exists(self.target, "it is a file, but a folder of parts is to be written", _INSTEAD_OF_FILE)
        if overwrite or self._is_own():
            return
        shown = [name for name in self.store.names(self.target) if not is_hidden(name) or name == SUCCESS]
        if shown:
            raise _exists(self.target, f"the folder is not empty; it holds {shown[0]}", _OVERWRITE)

    def _is_own(self) -> bool:
        done = self.read_marker()
        return done.get("key") == self.request.key or bool(self.store.names(self.staging))

    def read_marker(self) -> dict[str, Any]:
        """What ``_SUCCESS`` says: ``key`` and ``files``; empty without one, or when another system wrote it."""
        path = f"{self.folder}/{SUCCESS}"
        if not self.store.size(path):
            return {}
        with self.store.open(path) as file:
            try:
                content = json.loads(file.read())
            except ValueError:
                return {}
        return content if isinstance(content, dict) else {}

    def write_marker(self, files: Iterable[str]) -> None:
        """Write ``_SUCCESS``, by the same two steps as everything else."""
        content: Mapping[str, Any] = {"key": self.request.key, "files": sorted(files)}
        temporary = f"{self.staging}/success.tmp"
        with self.store.create(temporary) as file:
            file.write(json.dumps(content, indent=1).encode())
            self.store.sync(file)
        self.store.replace(temporary, f"{self.folder}/{SUCCESS}")

    def old_parts(self, keep: set[str]) -> list[str]:
        """Parts of an earlier output that the new one does not replace."""
        names = [name for name in self.store.names(self.folder) if _PART.fullmatch(name) and name not in keep]
        return [f"{self.folder}/{name}" for name in names]


_OVERWRITE = "write elsewhere, remove it, or set overwrite=True"
_INSTEAD_OF_FILE = "write elsewhere or remove it (overwrite replaces parts, never another kind of thing); a sink with \
one task may write one file: single_file=True"
_INSTEAD_OF_FOLDER = "write elsewhere, remove the folder (overwrite does not), or leave single_file out"


def _exists(path: str, why: str, remedy: str) -> DataAccessError:
    path = without_secrets(path)
    return DataAccessError(f"cannot write {path}", why=why, remedy=remedy, where=path)
