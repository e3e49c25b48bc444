"""A job whose first node has died, where Slurm does not put it back into the queue. Slurm's programs are pretended."""

from __future__ import annotations

import attrs

from twister2.spec.rm import Allocation, JobHandle, JobState, ResourceGroup, RmContext
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.plan import Plan
from twister2_rm_slurm.plugin import SlurmPlugin


def test_a_refused_requeue_is_the_end_and_says_why(tmp_path):
    programs, folder = tmp_path / "bin", tmp_path / "job"
    programs.mkdir()
    folder.mkdir()
    allocation = Allocation("job-1", "x", (ResourceGroup("w", 2),), ("true",), ("true",), {}, b"t", b"m", str(folder))
    allocation = attrs.evolve(allocation, master=ResourceGroup("master", 1), master_command=("true",))
    config = SlurmConfig(bin=str(programs), requeue=True)
    plan = Plan.of(allocation, config)
    plan.files.make()
    plan.save()
    for name, line in {
        "squeue": f"echo '12|RUNNING|None|N/A|n1|n2|twister2:job-1 {folder}'",
        "scontrol": "echo 'Requested operation is presently disabled for job 12' >&2; exit 1",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    manager = SlurmPlugin().rm_create(config, RmContext(str(tmp_path), 5.0))
    status = manager.state(JobHandle("slurm", "job-1", "12", {"folder": str(folder)}))
    assert status.state is JobState.FAILED
    assert "its first node failed" in status.reason
    assert "presently disabled" in status.reason
