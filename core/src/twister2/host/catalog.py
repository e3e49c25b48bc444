"""Which plugins are installed, read from the metadata of distributions. Nothing is imported, nothing is cached on disk.

A scan reads all groups at once, because a client asks for several kinds; :meth:`Catalog.refresh` forgets it, for
notebooks that install plugins while they run.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from twister2.host.distributions import distributions
from twister2.host.installed import normalised, split_requirement
from twister2.host.records import PluginRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.metadata import Distribution

    from twister2.host.distributions import FolderDistribution

PREFIX = "twister2."
CORE = "twister2-core"


class Catalog:
    """The installed plugins of this interpreter."""

    def __init__(self) -> None:
        self._records: dict[str, list[PluginRecord]] | None = None

    def records(self, kind: str) -> Sequence[PluginRecord]:
        """All entry points of a kind by name; a name provided twice is there twice."""
        return self._all().get(kind, [])

    def kinds(self) -> Sequence[str]:
        """All kinds that entry points name, right or wrong."""
        return sorted(self._all())

    def _all(self) -> dict[str, list[PluginRecord]]:
        if self._records is None:
            self._records = _scan()
        return self._records

    def refresh(self) -> None:
        """Forget what was read: the next question scans again."""
        self._records = None


class FixedCatalog(Catalog):
    """A catalogue of given records: a job's pins, or plugins of a test that are not installed."""

    def __init__(self, records: Sequence[PluginRecord]) -> None:
        super().__init__()
        self._fixed = sorted(records)

    def records(self, kind: str) -> Sequence[PluginRecord]:
        """The given records of a kind."""
        return [record for record in self._fixed if record.kind == kind]

    def kinds(self) -> Sequence[str]:
        """The kinds of the given records."""
        return sorted({record.kind for record in self._fixed})


def _forget_folders() -> None:
    """As ``importlib.invalidate_caches()``, which from Python 3.12 on imports importlib.metadata for it: some 20 ms."""
    if "importlib.metadata" in sys.modules:
        importlib.invalidate_caches()
        return
    for finder in (*sys.meta_path, *sys.path_importer_cache.values()):
        if finder is not None and finder is not PathFinder and hasattr(finder, "invalidate_caches"):
            finder.invalidate_caches()


def _scan() -> dict[str, list[PluginRecord]]:
    _forget_folders()  # what was installed a moment ago is seen, too
    found: dict[str, set[PluginRecord]] = {}
    seen: set[str] = set()
    for distribution in distributions():
        entry_points = [each for each in distribution.entry_points if each.group.startswith(PREFIX)]
        if not entry_points:
            continue
        headers = _headers(distribution)
        name, version = headers.get("name", [""])[0], headers.get("version", [""])[0]
        # The first on sys.path hides later ones of the same name, as it does for imports.
        if name and normalised(name) in seen:
            continue
        seen.add(normalised(name))
        requires = _core_requirement(headers.get("requires-dist", []))
        for entry_point in entry_points:
            kind = entry_point.group.removeprefix(PREFIX)
            record = PluginRecord(kind, entry_point.name, entry_point.value, name, version, requires)
            found.setdefault(kind, set()).add(record)
    return {kind: sorted(records) for kind, records in found.items()}


def _headers(distribution: FolderDistribution | Distribution) -> dict[str, list[str]]:
    """The headers of a distribution's metadata by name in lower case; none where those of a half-removed one lack.

    Read here: making a message of it, as ``importlib.metadata`` does for each question, would take most of a scan.
    """
    found: dict[str, list[str]] = {}
    for line in (distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or "").splitlines():
        if not line:
            break
        name, separator, value = line.partition(":")
        if separator and not line[0].isspace():
            found.setdefault(name.lower(), []).append(value.strip())
    return found


def _core_requirement(requirements: Sequence[str]) -> str:
    for requirement in requirements:
        try:
            name, clauses = split_requirement(requirement)
        except ValueError:
            continue
        if normalised(name) == CORE:
            return clauses
    return ""
