"""Jobs on a real Slurm whose copies are lines of shell."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time

import pytest

from twister2.spec.rm import Allocation, ResourceGroup, RmContext
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.plugin import SlurmPlugin
from twister2_testkit.managed import ManagedJobs

REVOKED_S = 2.0
"""Nodes refuse a job whose credential is of the same second as the end of its run before, or older; the controller then
ends it ("Job credential revoked"). Slurm's own pause of two minutes is for that."""


class Jobs:
    """Submits jobs whose copies are lines of shell, and kills them at the end of the test."""

    until = staticmethod(ManagedJobs.until)

    def __init__(self, tmp_path):
        self.root = tmp_path
        self.made = []

    def backend(self, **options):
        return SlurmPlugin().rm_create(SlurmConfig(**options), RmContext(str(self.root)))

    def submit(self, worker, master=None, n=3, backend=None, **changes):
        job_id = f"job-{os.getpid()}-{len(self.made)}-{time.monotonic_ns()}"
        folder = self.root / f"{job_id} 100%x'é"
        folder.mkdir(mode=0o700)
        values = {
            "job_id": job_id,
            "name": "a test — ünïcode " + "x" * 300,
            "groups": (ResourceGroup("w", n),),
            "worker_command": ("/bin/sh", "-c", worker, "copy", "an 'odd' argument"),
            "master_command": ("/bin/sh", "-c", master or ""),
            "environment": {"GREETING": "a 'b' \"c\" $d"},
            "ticket": b"first ticket",
            "master_ticket": b"of the master",
            "folder": str(folder),
            "master": ResourceGroup("m", 1) if master else None,
        }
        backend = backend or self.backend()
        handle = backend.submit(Allocation(**{**values, **changes}))
        self.made.append(handle)
        return backend, handle

    def ended(self, backend, handle):
        """The status of a job when it has ended."""
        return self.until(lambda: status if (status := backend.state(handle)).state.final else None)

    @staticmethod
    def output(backend, handle, slot):
        """What a copy has written."""
        return "".join(chunk.text for chunk in backend.logs(handle, slot=slot) if chunk.stream == "stdout")

    @staticmethod
    def shown(*columns):
        """All jobs that Slurm shows, also those that have ended: these columns of each."""
        line = ["squeue", "-h", "-t", "all", "-o", "|".join(columns)]
        rows = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        return [row.split("|") for row in rows]

    def of(self, handle):
        """States of all jobs of Slurm that are part of a job, by Slurm's number."""
        return {number: state for number, state, note in self.shown("%i", "%T", "%k") if handle.job_id in note}

    def hurry(self, number):
        """Slurm lets a job that was put back wait for two minutes: not here.

        :param number: Slurm's number of the job.
        """

        def waits():
            (state,) = (state for found, state in self.shown("%i", "%T") if found == number)
            assert state not in ("COMPLETED", "CANCELLED", "TIMEOUT"), state
            return state == "PENDING"

        self.until(waits)
        time.sleep(REVOKED_S)
        line = ["scontrol", "update", f"JobId={number}", "StartTime=now"]
        subprocess.run(line, check=True, timeout=60, capture_output=True)

    @staticmethod
    def lives(pid):
        """Whether a process runs."""
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False


@pytest.fixture
def jobs(tmp_path):
    """Submits jobs; what is left of them is cancelled."""
    made = Jobs(tmp_path)
    yield made
    for handle in made.made:
        numbers = {handle.native_id, *(number.split("+")[0] for number in made.of(handle))}
        subprocess.run(["scancel", *numbers], check=False, capture_output=True)
