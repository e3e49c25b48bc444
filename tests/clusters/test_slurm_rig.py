"""What the Slurm plugin's tests build on: the cluster starts steps on several nodes and makes one MPI world."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm.sh")

pytestmark = pytest.mark.needs_slurm


def srun(*arguments: str) -> list[str]:
    done = subprocess.run(["srun", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.split())


def test_a_step_runs_on_several_nodes():
    names = srun("--nodes=2", "--ntasks=2", "sh", "-c", "echo $SLURMD_NODENAME")
    assert len(set(names)) == 2


@pytest.mark.needs_mpi
def test_pmi2_makes_one_mpi_world():
    program = "from mpi4py import MPI; print(MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size(), sep='/')"
    assert srun("--mpi=pmi2", "--ntasks=3", sys.executable, "-c", program) == ["0/3", "1/3", "2/3"]


def test_a_state_folder_too_long_for_a_socket_is_refused(tmp_path):
    home = tmp_path / ("x" * 80)
    done = subprocess.run(
        [str(SCRIPT), "start"],
        env={"PATH": "/usr/bin:/bin", "TWISTER2_SLURM_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "longer than the 80 characters" in done.stderr
    assert not home.exists()
