"""The layers of configuration below the options classes' defaults, lowest first.

site file < user file < project files < profile < environment < ``-o`` < keyword.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from twister2.config.home import home_folder
from twister2.config.tree import Leaf, Tree, from_data, from_path, merge
from twister2.spec.values import Value

PREFIX = "TWISTER2__"
PROJECT_FILE = "twister2.toml"
SITE_FILE = "/etc/twister2/config.toml"
SITE_VARIABLE = "TWISTER2_SITE_CONFIG"


@attrs.frozen(eq=False, repr=False)
class Problem(Value):
    """One thing that is wrong, as a line for people.

    :ivar path: dotted key, empty for a whole file. :ivar text: what is wrong. :ivar origin: where it was written.
    """

    path: str
    text: str
    origin: str

    def __str__(self) -> str:
        where = f"  [{self.origin}]" if self.origin else ""
        return f"{self.path}: {self.text}{where}" if self.path else f"{self.text}{where}"


def config_files(environ: Mapping[str, str], explicit: Sequence[str | os.PathLike[str]] | None) -> list[Path]:
    """The files that are read, lowest first; those that need not exist are left out when they do not. One that the
    environment names has to exist.

    :param explicit: given with ``--config``; they replace the search for ``twister2.toml``.
    """
    site = environ.get(SITE_VARIABLE)
    usual = [] if site else [Path(SITE_FILE)]
    configured, home = environ.get("XDG_CONFIG_HOME", ""), home_folder(environ)
    if os.path.isabs(configured):
        usual.append(Path(configured) / "twister2" / "config.toml")
    elif home is not None:
        usual.append(home / ".config" / "twister2" / "config.toml")
    # a folder of that name is a mistake, which its reader tells
    found = [*([Path(site)] if site else []), *(path for path in usual if path.exists())]
    if explicit is not None:
        return found + [Path(path) for path in explicit]
    try:
        project = find_project_file(Path.cwd())
    except FileNotFoundError:  # the current folder was removed
        project = None
    return found + ([project] if project else [])


def find_project_file(folder: Path) -> Path | None:
    """``twister2.toml`` in ``folder`` or the nearest folder above it."""
    for candidate in (folder, *folder.parents):
        path = candidate / PROJECT_FILE
        if path.exists():
            return path
    return None


def read_file(path: Path) -> tuple[Tree, list[Problem]]:
    """One TOML file as a tree; what cannot be read is a problem."""
    import tomllib

    shown = _shown(path)
    try:
        return from_data(tomllib.loads(path.read_bytes().decode("utf-8")), f"file {shown}"), []
    except OSError as error:
        return {}, [Problem("", f"cannot be read: {error.strerror}", f"file {shown}")]
    except UnicodeDecodeError as error:
        return {}, [Problem("", f"is not UTF-8: byte {error.start}", f"file {shown}")]
    except tomllib.TOMLDecodeError as error:
        return {}, [Problem("", f"is not TOML: {error}", f"file {shown}")]


def _shown(path: Path) -> str:
    """A path as short as it stays clear: relative to the current folder where it lies below it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):
        return str(path)


def read_environment(environ: Mapping[str, str]) -> Tree:
    """``TWISTER2__RM__SLURM__PARTITION=debug``: text, parsed by the option's type. Keys become lower case."""
    tree: Tree = {}
    for name in sorted(environ):
        if name.startswith(PREFIX):
            path = name.removeprefix(PREFIX).lower().split("__")
            tree = merge(tree, from_path(path, Leaf(environ[name], f"environment {name}", text=True)))
    return tree


def read_settings(settings: Sequence[str]) -> tuple[Tree, list[Problem]]:
    """``-o rm.slurm.partition=debug``: text, parsed by the option's type. Later ones win."""
    tree: Tree = {}
    problems = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        path = [part.strip() for part in key.split(".")]
        if not equals or not all(path) or len(path) < 2:
            problems.append(Problem("", f"{setting!r} is not of the form table.key=value", "-o"))
            continue
        tree = merge(tree, from_path(path, Leaf(value, "-o", text=True)))
    return tree, problems


def read_overrides(overrides: Mapping[str, Any]) -> Tree:
    """Keyword arguments of a program: nested mappings of Python values. None in it means: not given."""
    return from_data(_given(overrides), "keyword")


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _given(value) if isinstance(value, Mapping) else value for key, value in data.items() if value is not None
    }
