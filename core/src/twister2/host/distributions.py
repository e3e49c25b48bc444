"""The distributions on ``sys.path`` and their entry points, without ``importlib.metadata`` where that is not needed.

Importing it costs a client some 20 ms, before it knows which resource manager to tell that a job will follow. What
installers leave behind is simple: folders ``*.dist-info`` with the text files ``entry_points.txt`` and ``METADATA``.
Where anything else may hold a distribution (eggs, archives, finders of packages), ``importlib.metadata`` is asked.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import importlib.metadata
    from collections.abc import Iterable

UNREADABLE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""What ``importlib.metadata`` takes for a file that is not there."""


class EntryPoint(NamedTuple):
    """One line of an ``entry_points.txt``."""

    group: str
    name: str
    value: str


class FolderDistribution:
    """A ``*.dist-info`` folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read_text(self, filename: str) -> str | None:
        """A file of its metadata, None when it has none of that name."""
        try:
            with open(f"{self._folder}/{filename}", encoding="utf-8") as file:
                return file.read()
        except UNREADABLE:
            return None

    @property
    def entry_points(self) -> list[EntryPoint]:
        """What it provides."""
        found, group = [], ""
        for line in map(str.strip, (self.read_text("entry_points.txt") or "").splitlines()):
            if line.startswith("[") and line.endswith("]"):
                group = line[1:-1]
            elif line and not line.startswith("#"):
                name, _, value = line.partition("=")
                found.append(EntryPoint(group, name.strip(), value.strip()))
        return found


def distributions() -> Iterable[FolderDistribution | importlib.metadata.Distribution]:
    """All distributions, in the order of ``sys.path``; one that is there twice comes twice."""
    folders = _only_folders()
    if folders is not None:
        return map(FolderDistribution, folders)
    import importlib.metadata

    return importlib.metadata.distributions()


def _only_folders() -> list[str] | None:
    """The ``*.dist-info`` folders on ``sys.path``; None when distributions may be elsewhere, too."""
    if any(hasattr(finder, "find_distributions") for finder in sys.meta_path if finder is not PathFinder):
        return None
    found = []
    for place in map(os.fspath, sys.path):
        try:
            names = os.listdir(place or ".")
        except FileNotFoundError:
            continue
        except OSError:  # an archive, most likely
            return None
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            if ending in (".egg", ".egg-info") or name.lower() == "egg-info":  # the last: the place is an egg
                return None
            if ending == ".dist-info":
                found.append(os.path.join(place, name))
    return found
