"""The folder that ``twister2 plugins new`` writes: right in style, installable, clean, and red where work is left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from twister2.spec.errors import UsageError
from twister2.spec.plugin import KINDS
from twister2_testkit.template import write_plugin

ROOT = Path(__file__).resolve().parents[2]


def run(*command, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_in_style_and_typed_by_the_contract(kind, tmp_path):
    folder = write_plugin(kind, "new_thing", str(tmp_path))
    for tool in (("ruff", "check", "--select=E,F,I,UP"), ("ruff", "format", "--check")):
        done = run(*tool, "--isolated", "--line-length=120", ".", cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr


def test_all_kinds_type_check(tmp_path):
    for number, kind in enumerate(KINDS):
        write_plugin(kind, f"thing_{'abcdefghijk'[number]}", str(tmp_path))
    sources = [str(path) for path in tmp_path.glob("*/src/*")]
    path = os.pathsep.join(str(path) for path in tmp_path.glob("*/src"))
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\n")
    done = run("mypy", "--config-file", str(config), *sources, cwd=tmp_path, MYPYPATH=path)
    assert done.returncode == 0, done.stdout


def test_kinds_with_a_suite_get_its_tests(tmp_path):
    for kind in set(KINDS) - {"observe", "api", "command"}:
        tests = (write_plugin(kind, "new_thing", str(tmp_path / kind)) / "tests" / "test_conformance.py").read_text()
        assert "pytest.fail" not in tests, kind
        assert 'why={"*": "not written yet"}' in tests


@pytest.mark.parametrize("kind", KINDS)
def test_it_installs_passes_hygiene_and_waits_for_the_work(kind, tmp_path):
    folder = write_plugin(kind, "new_thing", str(tmp_path))
    site = tmp_path / "site"
    done = run(
        *("pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--target", str(site)),
        str(folder),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    options = ("-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(folder), "-c", os.devnull)
    for selection, outcome in (("TestHygiene", 0), ("not TestHygiene", 1)):
        done = run("pytest", *options, "-k", selection, str(folder / "tests"), cwd=tmp_path, PYTHONPATH=str(site))
        assert done.returncode == outcome, done.stdout
    assert re.search(r"\d+ (failed|error)", done.stdout), done.stdout


def test_nothing_is_overwritten_and_names_are_checked(tmp_path):
    write_plugin("rm", "foo", str(tmp_path))
    for kind, name, clue in (("rm", "foo", "exists"), ("rm", "Foo-bar", "name of a plugin"), ("xx", "foo", "kind")):
        with pytest.raises(UsageError, match=clue):
            write_plugin(kind, name, str(tmp_path))


def test_the_folder_is_made_or_it_is_said_why_not(tmp_path):
    assert write_plugin("rm", "foo", str(tmp_path / "my" / "plugins")).parent == tmp_path / "my" / "plugins"
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        write_plugin("rm", "foo", str(tmp_path / "file"))
