"""Versions of installed distributions, and whether they satisfy a requirement, without a dependency for it.

A worker asks for the versions of a handful of pinned distributions. ``importlib.metadata`` costs some 30 ms to import,
so the names of the ``*.dist-info`` folders, which hold name and version, are read first.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SEPARATORS = re.compile(r"[-_.]+")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?([^);]*)\)?\s*(?:;.*)?$")
_CLAUSE = re.compile(r"\s*(~=|==|!=|<=|>=|<|>)\s*([0-9][^\s,]*?)(\.\*)?\s*$")


def normalised(name: str) -> str:
    """A distribution name as indexes compare it: lower case, one ``-`` for any run of separators."""
    return _SEPARATORS.sub("-", name).lower()


def install_command(requirement: str) -> str:
    """The exact command that installs a distribution into this interpreter."""
    return f"{sys.executable} -m pip install {requirement}"


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, None when it is not installed."""
    wanted = normalised(distribution)
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info"):
                found, _, version = name.removesuffix(".dist-info").partition("-")
                if version and normalised(found) == wanted:
                    return version
    return _version_from_metadata(distribution)


def _version_from_metadata(distribution: str) -> str | None:
    """Eggs, archives and whatever else has no ordinary ``.dist-info`` folder."""
    import importlib.metadata

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def split_requirement(requirement: str) -> tuple[str, str]:
    """``"twister2-core >=0.1,<0.2 ; marker"`` as name and clauses.

    :raises ValueError: it is not of that form.
    """
    match = _REQUIREMENT.match(requirement)
    if match is None:
        raise ValueError(f"not a requirement: {requirement!r}; write for example 'twister2-rm-slurm>=0.1'")
    return match.group(1), match.group(2).replace(" ", "")


def _key(version: str) -> tuple[tuple[int, ...], int, str]:
    """A sort key: numbers of the release, then whether it is final (pre-releases come first), then the rest."""
    match = re.match(r"(\d+(?:\.\d+)*)(.*)$", version)
    if match is None:
        return (), 0, version
    numbers = [int(part) for part in match.group(1).split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    rest = match.group(2).partition("+")[0]
    pre = bool(re.match(r"[._-]?(a|b|c|rc|alpha|beta|pre|preview|dev)", rest))
    return tuple(numbers), 0 if pre else 1, rest


_COMPARE: dict[str, Callable[[object, object], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
    "<": lambda a, b: a < b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
}


def satisfies(version: str, clauses: str) -> bool:
    """Whether ``version`` fits clauses such as ``">=0.1,<0.2"`` or ``"~=0.3"``; no clauses fit everything.

    :raises ValueError: a clause is not understood.
    """
    for clause in filter(None, clauses.split(",")):
        match = _CLAUSE.match(clause)
        if match is None:
            raise ValueError(f"not a version clause: {clause!r}; write for example '>=0.1'")
        operator, wanted, star = match.groups()
        release = wanted.split(".")
        if operator == "~=":
            prefix = release[:-1]
            fits = _key(version) >= _key(wanted) and version.split(".")[: len(prefix)] == prefix
        elif star:
            fits = (version.split(".")[: len(release)] == release) == (operator == "==")
        else:
            fits = _COMPARE[operator](_key(version), _key(wanted))
        if not fits:
            return False
    return True


def missing_requirements(requirements: tuple[str, ...]) -> list[str]:
    """Which of ``job.requires`` are not met here, one sentence each."""
    problems = []
    for requirement in requirements:
        try:
            name, clauses = split_requirement(requirement)
            version = installed_version(name)
            if version is None:
                problems.append(f"{requirement} is not installed; {install_command(repr(requirement))}")
            elif not satisfies(version, clauses):
                problems.append(
                    f"{requirement} is required, {version} is installed; {install_command(repr(requirement))}"
                )
        except ValueError as error:
            problems.append(str(error))
    return problems
