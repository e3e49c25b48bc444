"""The guide for plugin authors is true: its code blocks, put where it says, pass the kit and load."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from twister2.spec.plugin import KINDS
from twister2_testkit.template import write_plugin

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "plugins"


@pytest.fixture(scope="module")
def blocks():
    text = (GUIDE / "index.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run(folder, *command):
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "site")},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_guides_plugin_passes_the_kit(blocks, tmp_path):
    folder = write_plugin("sched", "fair", str(tmp_path))
    package = folder / "src" / "twister2_sched_fair"
    targets = (package / "config.py", package / "plugin.py", package / "backend.py", folder / "tests" / "test_fair.py")
    assert len(blocks) == len(targets)
    for target, block in zip(targets, blocks, strict=True):
        target.write_text(f'"""From the guide."""\n\nfrom __future__ import annotations\n\n{block}', encoding="utf-8")
    (folder / "tests" / "test_conformance.py").unlink()
    site = tmp_path / "site"
    quiet = ("--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--target", str(site))
    done = run(tmp_path, "pip", "install", *quiet, str(folder))
    assert done.returncode == 0, done.stderr
    options = ("-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder))
    done = run(tmp_path, "pytest", *options, str(folder / "tests"))
    assert done.returncode == 0, done.stdout
    assert "skipped: capability limits_tasks is closed: its limit is an option" in done.stdout
    done = run(tmp_path, "twister2.cli.main", "plugins", "list", "sched", "--check")
    assert re.search(r"^sched +fair +twister2-sched-fair +0\.1\.0 +1\.0 +ok$", done.stdout, re.MULTILINE), done.stdout


def test_the_guides_operator_passes_its_tests(tmp_path):
    text = (GUIDE / "operators.md").read_text(encoding="utf-8")
    backend, tests = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    folder = write_plugin("ops", "sample", str(tmp_path))
    (folder / "src" / "twister2_sample" / "backend.py").write_text(backend, encoding="utf-8")
    (folder / "tests" / "test_conformance.py").unlink()
    (folder / "tests" / "test_shift.py").write_text(tests, encoding="utf-8")
    site = tmp_path / "site"
    quiet = ("--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--target", str(site))
    done = run(tmp_path, "pip", "install", *quiet, str(folder))
    assert done.returncode == 0, done.stderr
    options = ("-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder))
    done = run(tmp_path, "pytest", *options, str(folder / "tests"))
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_section_with_every_hook_and_its_arguments(kind):
    from twister2.host.checks import hook_arguments, spec_class, spec_hooks

    text = (GUIDE / "kinds.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    (section,) = [each for each in sections if each.startswith(f"`{kind}`")]
    for name, hook in spec_hooks(spec_class(KINDS[kind])).items():
        assert f"`{name}({', '.join(hook_arguments(hook))})`" in section
    assert f"twister2.{kind}" in section
