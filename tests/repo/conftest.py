"""A small repository that keeps every rule, for tests to break."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

UMBRELLA = """\
[project]
name = "twister2"
dependencies = ["twister2-core>=0.1,<0.2", "twister2-rm-alpha>=0.1,<0.2"]
[project.optional-dependencies]
api = ["twister2-words>=0.1,<0.2"]
all = ["twister2[api]"]
[dependency-groups]
dev = ["pytest"]
"""

MEMBER = """\
[build-system]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "0.1.0"
readme = "README.md"
license = "Apache-2.0"
requires-python = ">=3.11"
dependencies = [{dependencies}]
{entry_points}"""


class Repository:
    """A repository below ``root`` and the tools run on it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str = "") -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text, f"{path} does not hold {old!r}"
        self.write(path, text.replace(old, new))

    def remove(self, path: str) -> None:
        target = self.root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    def add_member(self, folder: str, package: str, dependencies: list[str], entry_points: str = "") -> None:
        name = "twister2-" + folder.rpartition("/")[2].replace("_", "-")
        quoted = ", ".join(f'"{item}"' for item in dependencies)
        text = MEMBER.format(name=name, dependencies=quoted, entry_points=entry_points)
        self.write(f"{folder}/pyproject.toml", text)
        self.write(f"{folder}/README.md")
        self.write(f"{folder}/tests/test_it.py")
        for module in ("__init__.py", "plugin.py", "py.typed"):
            self.write(f"{folder}/src/{package}/{module}")

    def tool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tools" / "workspace.py"), "--root", str(self.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def problems(self) -> list[str]:
        done = self.tool("check")
        assert done.returncode in (0, 1), done.stderr
        lines = done.stdout.splitlines()
        assert bool(lines) == bool(done.returncode)
        return lines


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Core, test kit, one plugin chosen by configuration and one that users import; no rule is broken."""
    made = Repository(tmp_path / "repo")
    pin = "twister2-core>=0.1,<0.2"
    made.write("pyproject.toml", UMBRELLA)
    made.add_member("core", "twister2", ["pluggy", "stevedore", "attrs", "pyzmq"])
    (made.root / "core/src/twister2/plugin.py").unlink()
    for package in ("spec", "graph", "host", "client", "cli"):
        made.write(f"core/src/twister2/{package}/__init__.py")
    made.add_member("testkit", "twister2_testkit", [pin, "pytest"])
    for folder, group, name in (("rm_alpha", "rm", "alpha"), ("words", "api", "words")):
        target = f"twister2_{folder}.plugin:Plugin"
        entry_points = f'[project.entry-points."twister2.{group}"]\n{name} = "{target}"\n'
        made.add_member(f"plugins/{folder}", f"twister2_{folder}", [pin], entry_points)
    made.write(
        "constraints.txt", "".join(f"{name}==1.0\n" for name in ("pluggy", "stevedore", "attrs", "pyzmq", "pytest"))
    )
    assert made.tool("requirements").returncode == 0
    return made
