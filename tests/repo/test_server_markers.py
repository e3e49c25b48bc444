"""A test that needs a server is skipped with the reason, or fails where servers are required."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDS = (
    "needs_slurm",
    "needs_k8s",
    "needs_nomad",
    "needs_mesos",
    "needs_openmpi",
    "needs_netns",
    "needs_hosts",
    "needs_mount",
)
WHY = (
    "Slurm is not installed",
    "no Kubernetes is running",
    "no Nomad is running",
    "no Mesos is running",
    "Open MPI is not installed",
    "iproute2",
    "OpenSSH is not installed",
    "no small file system",
)


@pytest.fixture
def run_without_servers(tmp_path):
    """Run a test of each mark where no command is on PATH; gives the finished process."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n" + "".join(f"    {name}: x\n" for name in NEEDS))
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_other(): pass\n"
        + "".join(f"@pytest.mark.{name}\ndef test_{name}(): pass\n" for name in NEEDS)
    )

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("TWISTER2_", "PYTEST_"))}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider"],
            cwd=tmp_path,
            env={**kept, "PATH": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_skipped_with_the_reason(run_without_servers):
    done = run_without_servers()
    assert done.returncode == 0, done.stdout
    assert f"1 passed, {len(NEEDS)} skipped" in done.stdout
    assert all(why in done.stdout for why in WHY), done.stdout


def test_failure_where_servers_are_required(run_without_servers):
    done = run_without_servers(TWISTER2_REQUIRE_SERVERS="1")
    assert done.returncode == 1, done.stdout
    assert f"1 passed, {len(NEEDS)} errors" in done.stdout
    assert all(why in done.stdout for why in WHY), done.stdout


def test_every_probe_has_a_mark_a_line_for_contributors_and_the_programs_it_is_asked_for():
    text = (ROOT / "conftest.py").read_text(encoding="utf-8")
    probes = set(re.findall(r'^    "(needs_\w+)": _', text, re.MULTILINE))
    assert probes == {*NEEDS, "needs_mpi"}
    rules = (ROOT / "tools" / "rules.py").read_text(encoding="utf-8")
    assert probes == set(re.findall(r'^    "(needs_\w+)": \(', rules, re.MULTILINE))
    marks = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(f'"{name}: ' in marks and f"| `{name}` |" in table for name in probes)
