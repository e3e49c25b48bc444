"""How often Slurm is asked is an option: a cluster with thousands of jobs may want it less often."""

from __future__ import annotations

import pytest

from twister2.spec.rm import Allocation, JobHandle, ResourceGroup, RmContext
from twister2_rm_slurm import manager as module
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.plan import Plan
from twister2_rm_slurm.plugin import SlurmPlugin


@pytest.mark.parametrize("poll_s", [0.2, 7.5])
def test_who_follows_logs_looks_that_often(tmp_path, monkeypatch, poll_s):
    """Slurm's programs are pretended: the job runs at two looks, and has ended at the third."""
    slept = []

    class Clock:
        """The time module of the backend."""

        def __getattr__(self, name):
            return getattr(__import__("time"), name)

        @staticmethod
        def sleep(seconds):
            slept.append(seconds)
            if len(slept) == 2:
                row["state"] = None

    class Row:
        alive = True

    row = {"state": Row()}
    monkeypatch.setattr(module, "time", Clock())
    manager = SlurmPlugin().rm_create(SlurmConfig(bin=str(tmp_path), poll_s=poll_s), RmContext(str(tmp_path)))
    monkeypatch.setattr(manager._queue, "row", lambda *words, **more: row["state"])
    folder = tmp_path / "job"
    (folder / "slurm").mkdir(parents=True)
    groups = (ResourceGroup("w", 1),)
    allocation = Allocation("job-1", "x", groups, ("true",), ("true",), {}, b"t", b"m", str(folder))
    Plan.of(allocation, SlurmConfig()).save()
    handle = JobHandle("slurm", "job-1", "12", {"folder": str(folder)})
    assert list(manager.logs(handle, follow=True)) == []
    assert slept == [poll_s, poll_s]
