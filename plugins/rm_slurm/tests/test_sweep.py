"""What ends a job's processes on a node; of processes of this host, without Slurm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid

import pytest

from twister2_rm_slurm.steps import JOB, local_sweep

COPY = """
import signal, sys, time
def told(*_):
    print("told", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, told)
print("here", flush=True)
time.sleep(600)
"""


def swept(job: str, grace_s: float, spared: str) -> str:
    done = subprocess.run(
        local_sweep(job, None, grace_s, spared), capture_output=True, text=True, timeout=50, check=True, cwd="/"
    )
    return done.stdout.strip()


@pytest.fixture
def marked(tmp_path):
    """Starts processes of one job."""
    job, started = f"job-{uuid.uuid4().hex}", []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(words, env={**os.environ, JOB: job}, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    start.job = job
    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=20)


def srun(tmp_path) -> str:
    """A program of that name."""
    path = tmp_path / "srun"
    shutil.copy(shutil.which("sleep"), path)
    return str(path)


def test_an_srun_ends_by_itself_with_its_last_task_which_may_be_on_another_node(tmp_path, marked):
    """Told to end, it would kill that at once: its copy would not get its grace."""
    ends_by_itself = marked(srun(tmp_path), "1.5")
    copy = marked(sys.executable, "-c", COPY)
    assert copy.stdout.readline() == "here\n"
    assert swept(marked.job, 20.0, "srun") == "0"
    assert copy.wait(20) == 3
    assert ends_by_itself.wait(20) == 0


def test_what_does_not_end_in_its_grace_is_ended(tmp_path, marked):
    stays = marked(srun(tmp_path), "60")
    assert swept(marked.job, 0.3, "srun") == "0"
    assert stays.wait(20) == -9


def test_without_tasks_left_srun_is_told_itself(tmp_path, marked):
    waits_for_room = marked(srun(tmp_path), "60")
    assert swept(marked.job, 20.0, "") == "0"
    assert waits_for_room.wait(20) == -15
