"""What the repository consists of: its distributions, read from their ``pyproject.toml``, never imported."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CORE = "core"
TESTKIT = "testkit"
PLUGINS = "plugins"

SELECTED_KINDS = ("rm", "comm", "sched", "exec", "data", "state", "observe")
"""Kinds whose plugins are chosen by configuration: their folders are called ``<kind>_<name>``."""

NAMED_KINDS = ("ops", "api", "command")
"""Kinds whose plugins users import or type by name: their folders are called plainly ``<name>``."""

KINDS = SELECTED_KINDS + NAMED_KINDS
GROUP_PREFIX = "twister2."


@dataclass(frozen=True)
class Distribution:
    """One folder with a ``pyproject.toml``.

    ``data`` is the parsed file, empty when the file is missing or not TOML; ``problem`` then says which.
    """

    path: Path
    data: dict[str, Any]
    problem: str = ""

    @property
    def folder(self) -> str:
        """Name of the folder, from which every other name follows."""
        return self.path.name

    @property
    def project(self) -> dict[str, Any]:
        """The ``[project]`` table."""
        table = self.data.get("project", {})
        return table if isinstance(table, dict) else {}

    @property
    def name(self) -> str:
        """Name of the distribution as written."""
        return str(self.project.get("name", ""))

    @property
    def version(self) -> str:
        """Static version as written, empty when there is none."""
        return str(self.project.get("version", ""))

    @property
    def dependencies(self) -> list[str]:
        """Requirements as written, without those of extras."""
        return [str(item) for item in self.project.get("dependencies", [])]

    @property
    def extras(self) -> dict[str, list[str]]:
        """Requirements of each extra, as written."""
        return {str(key): list(value) for key, value in self.project.get("optional-dependencies", {}).items()}

    @property
    def entry_points(self) -> dict[str, dict[str, str]]:
        """``{group: {name: target}}``, only the groups of this project."""
        groups = self.project.get("entry-points", {})
        return {group: dict(names) for group, names in groups.items() if group.startswith(GROUP_PREFIX)}

    @property
    def import_name(self) -> str:
        """Name of the package under ``src/`` that the naming rule asks for."""
        return "twister2" if self.folder == CORE else f"twister2_{self.folder}"

    @property
    def package(self) -> Path:
        """Folder of that package."""
        return self.path / "src" / self.import_name


def requirement_name(requirement: str) -> str:
    """Return the normalised distribution name of a requirement: ``Foo_Bar[x]>=1`` gives ``foo-bar``."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return re.sub(r"[-_.]+", "-", match.group(1)).lower() if match else ""


def read_distribution(path: Path) -> Distribution:
    """Read the distribution in folder ``path``; a missing or broken file becomes its ``problem``."""
    file = path / "pyproject.toml"
    try:
        return Distribution(path, tomllib.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Distribution(path, {}, "has no pyproject.toml")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return Distribution(path, {}, f"pyproject.toml cannot be read: {error}")


@dataclass(frozen=True)
class Workspace:
    """All distributions of the repository at ``root``."""

    root: Path
    umbrella: Distribution
    core: Distribution
    testkit: Distribution
    plugins: tuple[Distribution, ...]

    @property
    def members(self) -> tuple[Distribution, ...]:
        """Every distribution with code: core, testkit, plugins; in that order."""
        return (self.core, self.testkit, *self.plugins)

    def default_members(self) -> tuple[Distribution, ...]:
        """Return those that ``pip install twister2`` brings, without extras."""
        wanted = {requirement_name(item) for item in self.umbrella.dependencies}
        return tuple(member for member in self.members if requirement_name(member.name) in wanted)


def read_workspace(root: Path) -> Workspace:
    """Read the repository at ``root``. Every folder below ``plugins/`` counts, also one that is half made."""
    folders = sorted(
        path
        for path in (root / PLUGINS).glob("*")
        if path.is_dir() and not path.name.startswith((".", "__")) and any(path.iterdir())
    )
    return Workspace(
        root=root,
        umbrella=read_distribution(root),
        core=read_distribution(root / CORE),
        testkit=read_distribution(root / TESTKIT),
        plugins=tuple(read_distribution(path) for path in folders),
    )
