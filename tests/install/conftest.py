"""Wheels of this repository, built once, and environments that hold nothing but what a test installs."""

from __future__ import annotations

import email
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.message import Message
from functools import cached_property
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [
    ".",
    "core",
    "testkit",
    *sorted(f"plugins/{path.parent.name}" for path in ROOT.glob("plugins/*/pyproject.toml")),
]

BUILD = """
import os, sys
from hatchling.build import build_wheel
for folder in sys.argv[2:]:
    os.chdir(os.path.join(sys.argv[1], folder))
    print(folder, build_wheel(os.environ["WHEELS"]))
"""


def distribution_of(folder: str) -> str:
    """The distribution that a folder makes."""
    return str(tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class Wheel:
    """A built wheel and what is in it."""

    def __init__(self, folder: str, path: Path) -> None:
        self.folder, self.path = folder, path
        with zipfile.ZipFile(path) as archive:
            self.files = {name: archive.read(name) for name in archive.namelist()}

    @cached_property
    def metadata(self) -> Message:
        (text,) = [data for name, data in self.files.items() if name.endswith(".dist-info/METADATA")]
        return email.message_from_string(text.decode("utf-8"))

    @property
    def name(self) -> str:
        return normal(self.metadata["Name"])

    @property
    def requirements(self) -> list[Requirement]:
        return [Requirement(text) for text in self.metadata.get_all("Requires-Dist") or []]

    def needs(self, *extras: str) -> set[str]:
        """Names of what it requires, with these extras."""
        return {
            normal(each.name)
            for each in self.requirements
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        }

    @property
    def modules(self) -> dict[str, bytes]:
        return {name: data for name, data in self.files.items() if name.endswith(".py")}


class Environment:
    """A virtual environment without pip, in which nothing of the running interpreter can be imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
        self.python = folder / "bin" / "python"
        self.site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        self.home = folder / "home"
        self.home.mkdir()

    def install(self, *wheels: Wheel, extras: tuple[str, ...] = ()) -> None:
        """Install wheels of this repository, and from the running interpreter what they declare of others."""
        self.pip("install", "--no-deps", "--no-index", "--no-compile", *[str(wheel.path) for wheel in wheels])
        for name in sorted(set().union(*(wheel.needs(*extras) for wheel in wheels))):
            if not name.startswith("twister2"):
                self._provide(name)

    def _provide(self, name: str) -> None:
        """Link a package of the running interpreter, and in turn what it requires, into the environment."""
        found = importlib.metadata.distribution(name)
        base = Path(str(found.locate_file("")))
        tops = {path.parts[:1] if path.parts[0] != ".." else path.parts for path in found.files or ()}
        for parts in sorted(tops):
            source, target = base.joinpath(*parts), Path(os.path.normpath(self.site.joinpath(*parts)))
            if parts[0] != "__pycache__" and source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(os.path.normpath(source))
        for text in found.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                self._provide(requirement.name)

    def pip(self, *words: str) -> None:
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check", "--quiet"]
        subprocess.run([*command, *words], check=True, timeout=100, capture_output=True, text=True)

    def run(self, *words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command with the environment's folder first on PATH, and no variable of ours but PATH."""
        return subprocess.run(
            [str(word) for word in words],
            cwd=cwd or self.home,
            env={
                "PATH": f"{self.python.parent}:/usr/bin:/bin",
                "HOME": str(self.home),
                "TWISTER2_SITE_CONFIG": os.devnull,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def script(self, code: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.python, "-c", code, *words)

    def twister2(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """The command as it is installed."""
        return self.run(self.python.parent / "twister2", *words)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Wheel]:
    """Every distribution of the repository as a wheel, by folder."""
    target = tmp_path_factory.mktemp("wheels")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(ROOT), *FOLDERS],
        env={**os.environ, "WHEELS": str(target)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    built = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    return {folder: Wheel(folder, target / name) for folder, name in built.items()}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An empty environment."""
    return Environment(tmp_path / "venv")
