"""A test that needs a server is skipped with the reason, or fails where servers are required."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_without_slurm(tmp_path):
    """Run one test marked needs_slurm where no Slurm command is on PATH; gives the finished process."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs_slurm: x\n    needs_mpi: x\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.needs_slurm\ndef test_it(): pass\ndef test_other(): pass\n"
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


def test_skipped_with_the_reason(run_without_slurm):
    done = run_without_slurm()
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped" in done.stdout
    assert "Slurm is not installed" in done.stdout


def test_failure_where_servers_are_required(run_without_slurm):
    done = run_without_slurm(TWISTER2_REQUIRE_SERVERS="1")
    assert done.returncode == 1, done.stdout
    assert "1 passed, 1 error" in done.stdout
    assert "Slurm is not installed" in done.stdout
