"""Inside an allocation that is there already: its nodes are used, and it stays when the job has ended."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid

import attrs
import pytest

from twister2.spec.errors import CapabilityError
from twister2.spec.rm import Allocation, JobHandle, JobState, ResourceGroup, RmContext
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.plugin import SlurmPlugin
from twister2_testkit.managed import ManagedJobs

pytestmark = [pytest.mark.needs_slurm, pytest.mark.timeout(240)]
until = ManagedJobs.until
PROGRAM = """
import os

import twister2_net as net


def main(env):
    print("worker", env.worker_id, "on", os.environ["SLURMD_NODENAME"], "of", net.allreduce(env, 1))
"""


@pytest.fixture
def number(monkeypatch):
    """An allocation of three tasks on three nodes, which this process is in."""
    line = ["salloc", "--no-shell", "-N3", "--ntasks-per-node=1", "--job-name=around"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    number = re.search(r"allocation (\d+)", done.stderr)[1]
    monkeypatch.setenv("SLURM_JOB_ID", number)
    yield number
    subprocess.run(["scancel", number], check=True, timeout=30)


@pytest.fixture
def rm(number, tmp_path):
    return SlurmPlugin().rm_create(config=SlurmConfig(), context=RmContext(str(tmp_path)))


def allocation(tmp_path, *command, n=3, **changes):
    job_id = f"in-{uuid.uuid4().hex[:12]}"
    values = {
        "job_id": job_id,
        "name": "in",
        "groups": (ResourceGroup("worker", n),),
        "worker_command": command,
        "master_command": (),
        "environment": {},
        "ticket": b"secret-of-the-ticket",
        "master_ticket": b"",
        "folder": str(tmp_path / "jobs" / job_id),
    }
    return Allocation(**{**values, **changes})


def over(rm, handle):
    return until(lambda: status if (status := rm.state(handle)).state.final else None)


def jobs_of_slurm():
    return subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, timeout=30).stdout.split()


def test_a_whole_job_in_an_allocation(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    line = ["salloc", "-N3", "--ntasks-per-node=1", sys.executable, "-m", "twister2", "submit", "slurm"]
    line += ["-o", "job.workers=3", "-o", f"job.state_dir={tmp_path}/state", str(tmp_path / "program.py")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(set(re.findall(r"on (n\d) of 3", done.stdout))) == 3, done.stdout
    assert len(re.findall(r"Granted job allocation", done.stderr)) == 1


def test_no_batch_job_is_submitted_and_the_allocation_stays(rm, number, tmp_path):
    handle = rm.submit(allocation(tmp_path, "sh", "-c", "echo $SLURM_JOB_ID; exit 0"))
    status = over(rm, handle)
    assert status.state is JobState.COMPLETED
    assert set(status.slots.values()) == {"exited 0"}
    assert {chunk.text.strip() for chunk in rm.logs(handle) if chunk.stream == "stdout"} == {number}
    rm.kill(handle, 1.0)
    assert rm.clean(handle) == []
    assert rm.state(handle).state is JobState.UNKNOWN
    assert rm.find(handle.job_id) is None
    shown = subprocess.run(["squeue", "-h", "-t", "all", "-o", "%k"], capture_output=True, text=True, timeout=30).stdout
    assert handle.job_id not in shown, "a batch job was submitted"
    assert number in jobs_of_slurm(), "the user's allocation was ended"


def test_exit_codes_and_another_attempt(rm, tmp_path):
    handle = rm.submit(allocation(tmp_path, "sh", "-c", "exit $TWISTER2_SLOT"))
    status = over(rm, handle)
    assert status.state is JobState.FAILED
    assert status.slots == {0: "exited 0", 1: "exited 1", 2: "exited 2"}
    rm.start_attempt(handle, 2, [1])
    until(lambda: rm.state(handle).slots.get(1) == "exited 1")
    rm.clean(handle)


def test_killed_from_a_shell_outside_the_allocation(rm, number, tmp_path, monkeypatch):
    handle = rm.submit(allocation(tmp_path, "sh", "-c", "sleep 600 & sleep 600"))
    until(lambda: rm.state(handle).state is JobState.RUNNING)
    marked = f"TWISTER2_JOB={handle.job_id}".encode()

    def processes():
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                try:
                    with open(f"/proc/{entry}/environ", "rb") as file, open(f"/proc/{entry}/cmdline", "rb") as line:
                        if marked in file.read() and line.read().startswith(b"sleep"):
                            found.append(int(entry))
                except OSError:
                    continue
        return found

    until(lambda: len(processes()) == 6)
    monkeypatch.delenv("SLURM_JOB_ID")
    other = SlurmPlugin().rm_create(config=SlurmConfig(), context=RmContext(str(tmp_path)))
    again = JobHandle(**json.loads(json.dumps(attrs.asdict(handle))))
    other.kill(again, 1.0)
    until(lambda: not processes())
    assert other.state(again).state is JobState.KILLED
    other.kill(again, 1.0)
    assert other.clean(again) == []
    assert number in jobs_of_slurm()
    assert not list((tmp_path / "jobs").glob("*/slurm/ticket"))


def test_more_than_the_allocation_has_is_said_in_srun_s_words(rm, tmp_path):
    handle = rm.submit(allocation(tmp_path, "true", groups=(ResourceGroup("worker", 3, cpus=9),)))
    status = over(rm, handle)
    assert status.state is JobState.FAILED
    assert "srun could not start the workers here: Unable to create step" in status.reason
    assert "More processors requested than permitted" in status.reason
    assert "ask salloc or sbatch" in status.reason
    rm.clean(handle)


def test_the_allocation_ends_under_the_job(rm, number, tmp_path):
    handle = rm.submit(allocation(tmp_path, "sleep", "600"))
    until(lambda: rm.state(handle).state is JobState.RUNNING)
    subprocess.run(["scancel", number], check=True, timeout=30)
    status = over(rm, handle)
    assert status.state is JobState.KILLED
    assert f"its allocation {number} has ended" in status.reason
    assert rm.clean(handle) == []


def test_a_job_that_is_over_stays_so_when_its_allocation_ends(rm, number, tmp_path):
    handle = rm.submit(allocation(tmp_path, "true"))
    assert over(rm, handle).state is JobState.COMPLETED
    subprocess.run(["scancel", number], check=True, timeout=30)
    until(lambda: number not in jobs_of_slurm())
    later = SlurmPlugin().rm_create(config=SlurmConfig(), context=RmContext(str(tmp_path)))
    assert later.state(handle).state is JobState.COMPLETED
    assert later.clean(handle) == []


def test_a_master_in_the_allocation_is_refused_and_a_batch_job_can_be_had(rm, tmp_path):
    assert not rm.offers.master_in_allocation
    assert "rm.slurm.inside = false" in rm.offers.why["master_in_allocation"]
    with pytest.raises(CapabilityError, match=r"job\.master = 'client'"):
        rm.submit(allocation(tmp_path, "true", master=ResourceGroup("master", 1)))
    batch = SlurmPlugin().rm_create(config=SlurmConfig(inside=False), context=RmContext(str(tmp_path)))
    assert batch.offers.master_in_allocation
    assert "#SBATCH" in batch.render(allocation(tmp_path, "true"))
    text = rm.render(allocation(tmp_path, "true"))
    assert "#SBATCH" not in text
    assert "srun --jobid=" in text
    assert "secret-of-the-ticket" not in text
