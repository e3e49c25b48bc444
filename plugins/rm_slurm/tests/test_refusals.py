"""What a real Slurm refuses, and what becomes of jobs while its controller is away."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import uuid

import pytest

from twister2.spec.errors import ResourceError, ResourcesExceededError, SubmissionRefusedError
from twister2.spec.rm import JobHandle, JobState, ResourceGroup, RmContext
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.plugin import SlurmPlugin

pytestmark = [pytest.mark.needs_slurm, pytest.mark.timeout(240)]
SLEEP = "exec sleep 300"
NOBODY = 65534
CAPABILITY = "--inh-caps=+dac_override --ambient-caps=+dac_override"
"""The files and the socket of the Slurm of the tests may lie in a folder that is root's alone; containers often have
this capability only."""
AS_NOBODY = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {CAPABILITY}"
RIG = pathlib.Path(__file__).parents[3] / "tests/clusters/slurm.sh"
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root acts as another user, and makes partitions")


@pytest.mark.parametrize(
    ("options", "said", "remedy"),
    [
        ({"partition": "no such"}, "invalid partition", "rm.slurm.partition"),
        ({"constraint": "gold"}, "invalid feature", "rm.slurm.constraint"),
        ({"licenses": "matlab:2"}, "invalid license", ""),
        ({"sbatch": ("--reservation=night",)}, "reservation", ""),
        ({"sbatch": ("--no-such-option",)}, "no-such-option", ""),
    ],
)
def test_what_there_is_not(jobs, options, said, remedy):
    with pytest.raises(SubmissionRefusedError) as caught:
        jobs.submit(SLEEP, backend=jobs.backend(**options))
    assert said in caught.value.why.lower()
    assert remedy in caught.value.remedy
    assert caught.value.remedy
    assert not [row for row in jobs.shown("%T", "%k") if str(jobs.root) in row[1] and row[0] != "FAILED"]
    (folder,) = jobs.root.iterdir()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "group",
    [{"cpus": 500}, {"memory_mb": 10**7}, {"disk_mb": 10**9}, {"gpus": 9}],
    ids=["cpus", "memory", "disk", "gpus"],
)
def test_more_than_any_node_has(jobs, group):
    """Slurm refuses it, or takes it and says why it never starts."""
    try:
        backend, handle = jobs.submit(SLEEP, groups=(ResourceGroup("w", 1, **group),))
    except ResourcesExceededError as error:
        assert "job." in error.remedy  # noqa: PT017 - either is right
        return
    status = jobs.until(lambda: found if "(" in (found := backend.state(handle)).reason else None)
    assert status.state is JobState.QUEUED
    assert "may never start" in status.reason
    backend.kill(handle, 0.0)


@pytest.fixture
def closed():
    """A partition that only root may use, with an hour for each job."""
    name = f"closed{uuid.uuid4().hex[:6]}"
    line = ["scontrol", "create", f"PartitionName={name}", "Nodes=n1", "AllowGroups=root", "MaxTime=60", "State=UP"]
    subprocess.run(line, check=True, timeout=60)
    yield name
    subprocess.run(["scancel", "--partition", name], check=True, timeout=60)
    delete = ["scontrol", "delete", f"PartitionName={name}"]
    end = time.monotonic() + 60
    while (done := subprocess.run(delete, timeout=60, check=False, capture_output=True)).returncode:
        assert time.monotonic() < end, done.stderr
        time.sleep(0.5)


@pytest.fixture
def as_nobody(tmp_path):
    """A folder of Slurm's programs, which run as a user without any rights."""
    folder = tmp_path / "bin"
    folder.mkdir(mode=0o755)
    for name in ("sbatch", "srun", "squeue", "scontrol", "scancel", "sacct"):
        line = f'{AS_NOBODY} {shutil.which(name)} "$@"'
        if name == "sbatch":  # the script lies in a folder that others may not enter
            line = f'for script; do :; done; {line.replace(chr(34) + "$@" + chr(34), "--parsable")} <"$script"'
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return str(folder)


@needs_root
def test_a_partition_that_is_not_for_this_user(jobs, closed, as_nobody):
    with pytest.raises(SubmissionRefusedError) as caught:
        jobs.submit(SLEEP, backend=jobs.backend(partition=closed, bin=as_nobody))
    assert "group not permitted" in caught.value.why.lower()
    assert caught.value.remedy


@needs_root
def test_more_time_than_the_partition_allows_is_said(jobs, closed):
    """Slurm takes the job, and never starts it."""
    backend, handle = jobs.submit(SLEEP, SLEEP, backend=jobs.backend(partition=closed), walltime_s=7200)
    status = jobs.until(lambda: found if "(" in (found := backend.state(handle)).reason else None)
    assert status.state is JobState.QUEUED
    assert "may never start" in status.reason
    backend.kill(handle, 0.0)


@needs_root
def test_somebody_elses_job_is_not_killed(jobs, as_nobody):
    backend, handle = jobs.submit(SLEEP, SLEEP, n=1)
    jobs.until(lambda: backend.state(handle).state is JobState.RUNNING)
    with pytest.raises(ResourceError) as caught:
        jobs.backend(bin=as_nobody).kill(handle, 0.1)
    assert "permission denied" in caught.value.why.lower()
    assert "as the user who submitted" in caught.value.remedy
    assert backend.state(handle).state is JobState.RUNNING
    backend.kill(handle, 0.1)


def test_kill_of_what_has_ended_and_of_what_never_was(jobs):
    backend, handle = jobs.submit("exit 0", n=1)
    jobs.ended(backend, handle)
    backend.kill(handle, 0.1)
    assert backend.state(handle).state is JobState.COMPLETED
    for number in ("999999", "no number", ""):
        nothing = JobHandle("slurm", "never-was", number, {"folder": str(jobs.root / "never")})
        backend.kill(nothing, 0.1)
        assert backend.clean(nothing) == []
        assert backend.state(nothing).state is JobState.UNKNOWN
    assert not (jobs.root / "never").exists()


def test_the_same_job_twice(jobs):
    """The second one leaves the first alone."""
    backend, handle = jobs.submit(SLEEP, SLEEP, n=1)
    jobs.until(lambda: backend.state(handle).state is JobState.RUNNING)
    folder = handle.facts["folder"]
    with pytest.raises(SubmissionRefusedError, match="already"):
        jobs.submit(SLEEP, SLEEP, n=1, job_id=handle.job_id, folder=folder)
    assert list(jobs.of(handle).values()) == ["RUNNING"]
    assert pathlib.Path(folder, "slurm", "ticket").exists()
    backend.kill(handle, 0.1)


def test_a_controller_that_is_away(tmp_path, jobs, monkeypatch):
    """At a submission, a look and a kill; nobody listens at its port."""
    conf = pathlib.Path(os.environ["SLURM_CONF"]).read_text()
    lines = ["SlurmctldPort=9" if line.startswith("SlurmctldPort=") else line for line in conf.splitlines()]
    (tmp_path / "slurm.conf").write_text("\n".join(lines))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    backend = jobs.backend()
    begun = time.monotonic()
    with pytest.raises(ResourceError, match=r"does not answer|no answer within") as caught:
        jobs.submit(SLEEP)
    assert "scontrol ping" in caught.value.remedy
    handle = JobHandle("slurm", "job-1", "1", {"folder": str(tmp_path)})
    for call in (lambda: backend.state(handle), lambda: backend.kill(handle, 0.1), lambda: backend.find("job-1")):
        with pytest.raises(ResourceError, match=r"does not answer|no answer within"):
            call()
    assert backend.clean(handle) != []
    assert time.monotonic() - begun < 200


@pytest.fixture
def own(monkeypatch):
    """A Slurm of its own, whose controller may be stopped: a function that calls its script."""
    home = tempfile.mkdtemp(prefix="t2-slurm-", dir="/tmp")
    monkeypatch.setenv("TWISTER2_SLURM_HOME", home)
    monkeypatch.setenv("SLURM_CONF", f"{home}/slurm.conf")

    def call(*words):
        subprocess.run(["bash", str(RIG), *words], check=True, timeout=120, stdout=subprocess.DEVNULL)

    try:
        call("start", "1")
        yield call
    finally:
        call("clean")


def test_a_job_goes_on_while_the_controller_is_away(own, jobs):
    worker = 'until [ -e "$TWISTER2_TICKET.over" ]; do date +%s%N >"$TWISTER2_TICKET.beat"; sleep 0.2; done'
    backend, handle = jobs.submit(worker, f"sh -c '{worker}'", n=2)
    files = pathlib.Path(handle.facts["folder"], "slurm")
    jobs.until(lambda: (files / "ticket.beat").exists())
    own("stop-controller")
    with pytest.raises(ResourceError, match=r"does not answer|no answer within") as caught:
        backend.state(handle)
    assert "Running jobs go on without it" in caught.value.remedy or "try again" in caught.value.remedy
    with pytest.raises(ResourceError, match=r"does not answer|no answer within"):
        jobs.backend().kill(handle, 0.1)
    beat = (files / "ticket.beat").read_text()
    jobs.until(lambda: (files / "ticket.beat").read_text() not in ("", beat))
    own("start")
    jobs.until(lambda: backend.state(handle).state is JobState.RUNNING)
    (files / "ticket.over").touch()
    assert jobs.ended(backend, handle).state is JobState.COMPLETED
    _, second = jobs.submit(SLEEP, SLEEP, n=1)
    jobs.until(lambda: backend.state(second).state is JobState.RUNNING)
    own("stop-controller")
    own("start")
    SlurmPlugin().rm_create(SlurmConfig(), RmContext(str(jobs.root))).kill(second, 0.2)
    assert not [row for row in jobs.shown("%i", "%T") if row[1] in ("RUNNING", "PENDING", "COMPLETING")]
