"""The guide for plugin authors is true: its code blocks, put where it says, pass the kit and load."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from twister2.spec.plugin import KINDS
from twister2_testkit.natives import NativeSuite
from twister2_testkit.template import write_plugin

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "plugins"


def blocks(page):
    """The Python blocks of a page, each with what its file needs and no page shows."""
    found = re.findall(r"```python\n(.*?)```", (GUIDE / page).read_text(encoding="utf-8"), re.DOTALL)
    return [f'"""From the guide."""\n\nfrom __future__ import annotations\n\n{block}' for block in found]


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


def run_the_tests_of(page, kind, name, files, tmp_path, chosen=""):
    """Write the blocks of a page into the folder of a new plugin, install it, run its tests; what they print.

    :param chosen: the tests of this file, or of this class of a file, only.
    """
    folder = write_plugin(kind, name, str(tmp_path))
    (package,) = (folder / "src").iterdir()
    (folder / "tests" / "test_conformance.py").unlink()
    for file, block in zip(files, blocks(page), strict=True):
        (folder / "tests" if file.startswith("test_") else package).joinpath(file).write_text(block, encoding="utf-8")
    quiet = ("--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--target", str(tmp_path / "site"))
    done = run(tmp_path, "pip", "install", *quiet, str(folder))
    assert done.returncode == 0, done.stderr
    options = ("-q", "-m", "not slow", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder))
    done = run(tmp_path, "pytest", *options, str(folder / "tests" / chosen))
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_guides_plugin_passes_the_kit(tmp_path):
    files = ("config.py", "plugin.py", "backend.py", "test_fair.py")
    printed = run_the_tests_of("index.md", "sched", "fair", files, tmp_path)
    assert "skipped: capability limits_tasks is closed: its limit is an option" in printed
    assert "skipped: capability keeps_groups is closed: it places every vertex by itself" in printed
    done = run(tmp_path, "twister2.cli.main", "plugins", "list", "sched", "--check")
    assert re.search(r"^sched +fair +twister2-sched-fair +0\.1\.0 +1\.0 +ok$", done.stdout, re.MULTILINE), done.stdout


def test_the_guides_operator_passes_its_tests(tmp_path):
    printed = run_the_tests_of("operators.md", "ops", "sample", ("backend.py", "test_shift.py"), tmp_path)
    assert "7 passed" in printed


TRANSPORT = ("config.py", "plugin.py", "backend.py", "test_pairs.py", "collectives.py", "test_native.py")


def test_the_guides_transport_passes_its_suite(tmp_path):
    printed = run_the_tests_of("transports.md", "comm", "pairs", TRANSPORT, tmp_path, "test_pairs.py")
    assert "4 skipped: capability allocates is closed: the kernel copies" in printed
    assert re.search(r"TestPairs \(CommSuite\): \d+ passed, 4 skipped$", printed, re.MULTILINE), printed


@pytest.mark.parametrize(("test", "suite"), [("TestNative", "NativeSuite"), ("TestMessages", "CommSuite")])
def test_the_guides_collectives_pass_both_suites(test, suite, tmp_path):
    printed = run_the_tests_of("transports.md", "comm", "pairs", TRANSPORT, tmp_path, f"test_native.py::{test}")
    assert re.search(rf"{test} \({suite}\): \d+ passed, \d+ skipped$", printed, re.MULTILINE), printed


def test_the_guide_has_all_that_a_suite_of_native_collectives_may_be_told():
    page = (GUIDE / "transports.md").read_text(encoding="utf-8")
    names = [
        *NativeSuite.__annotations__,
        "timeout_s",
        "make_transport(context)",
        "make_services(size)",
        "operations()",
    ]
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_the_guides_store_passes_its_suite(tmp_path):
    files = ("config.py", "backend.py", "test_sqlite.py")
    printed = run_the_tests_of("stores.md", "state", "sqlite", files, tmp_path)
    assert re.search(r"\(StateSuite\): \d+ passed$", printed, re.MULTILINE), printed


def test_the_guides_source_and_sink_pass_their_suite(tmp_path):
    files = ("config.py", "plugin.py", "backend.py", "test_sqlite.py")
    printed = run_the_tests_of("data.md", "data", "sqlite", files, tmp_path)
    assert re.search(r"\(DataSuite\): \d+ passed, 1 skipped$", printed, re.MULTILINE), printed


def test_the_guides_resource_manager_passes_its_suite(tmp_path):
    files = ("config.py", "launcher.py", "backend.py", "test_local.py")
    printed = run_the_tests_of("resource-managers.md", "rm", "local", files, tmp_path)
    assert re.search(r"\(ResourceManagerSuite\): \d+ passed, 4 skipped$", printed, re.MULTILINE), printed


def test_the_guides_observer_sees_a_job(tmp_path):
    files = ("config.py", "plugin.py", "test_journal.py")
    assert "11 passed" in run_the_tests_of("observers.md", "observe", "journal", files, tmp_path)


def test_the_guides_executor_passes_its_suite(tmp_path):
    printed = run_the_tests_of("executors.md", "exec", "turns", ("plugin.py", "backend.py", "test_turns.py"), tmp_path)
    assert re.search(r"\(ExecutorSuite\): \d+ passed, 1 skipped$", printed, re.MULTILINE), printed


def test_the_guides_interface_counts(tmp_path):
    files = ("plugin.py", "__init__.py", "tally.py", "test_tally.py")
    printed = run_the_tests_of("apis.md", "api", "tally", files, tmp_path)
    assert re.search(r"^\d+ passed in", printed, re.MULTILINE), printed
    done = run(tmp_path, "twister2.cli.main", "plugins", "list", "api", "--check")
    assert re.search(r"^api +tally +twister2-tally +0\.1\.0 +1\.0 +ok$", done.stdout, re.MULTILINE), done.stdout


def test_the_guides_subcommand_greets(tmp_path):
    files = ("config.py", "plugin.py", "backend.py", "test_hello.py")
    assert "13 passed" in run_the_tests_of("commands.md", "command", "hello", files, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_section_with_every_hook_and_its_arguments(kind):
    from twister2.host.checks import hook_arguments, spec_class, spec_hooks

    text = (GUIDE / "kinds.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    (section,) = [each for each in sections if each.startswith(f"`{kind}`")]
    for name, hook in spec_hooks(spec_class(KINDS[kind])).items():
        assert f"`{name}({', '.join(hook_arguments(hook))})`" in section
    assert f"twister2.{kind}" in section
