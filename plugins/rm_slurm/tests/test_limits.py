"""On a Slurm of the tests' own, which keeps accounts and, where control groups can be made, the limits of memory."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from twister2.spec.errors import SubmissionRefusedError
from twister2.spec.rm import JobState, ResourceGroup
from twister2_testkit.managed import ManagedJobs

pytestmark = [pytest.mark.needs_slurm, pytest.mark.faults, pytest.mark.timeout(300)]
SCRIPT = Path(__file__).parents[3] / "tests" / "clusters" / "slurm.sh"
CONTROLLERS = [Path("/sys/fs/cgroup", name) for name in ("memory", "freezer")]
ENFORCED = os.getuid() == 0 and all(os.access(path, os.W_OK) for path in CONTROLLERS)
NOT_ENFORCED = "no control groups of version 1 (memory, freezer) can be made here"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ACCOUNTS = {"one": "GrpJobs=1", "few": "MaxSubmitJobs=1"}
SLEEP = "exec sleep 300"
EATS = """
def main(env):
    kept = [bytes(range(256)) * 4096 for _ in range(2000)]
"""
EATING = f"exec {sys.executable} -c 'kept = [bytes(range(256)) * 4096 for _ in range(2000)]'"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two nodes, and accounts of one running job, and of one job in the queue."""
    required = os.environ.get("TWISTER2_REQUIRE_SERVERS", "") not in ("", "0")
    if not required and not all(shutil.which(name, path=PATH) for name in ("slurmdbd", "mariadbd")):
        pytest.skip("slurmdbd or MariaDB is not installed (tests/clusters/slurm.sh install)")
    with pytest.MonkeyPatch.context() as changed:
        home = tempfile.mkdtemp(prefix="t2-slurm-", dir="/tmp")
        changed.setenv("TWISTER2_SLURM_HOME", home)
        changed.setenv("SLURM_CONF", f"{home}/slurm.conf")
        changed.setenv("TWISTER2_SLURM_DBD", "1")
        changed.setenv("TWISTER2_SLURM_CGROUP", "1" if ENFORCED else "")
        try:
            run(SCRIPT, "start", "2")
            user = pwd.getpwuid(os.getuid()).pw_name
            for name, limit in ACCOUNTS.items():
                run("sacctmgr", "-i", "add", "account", name, limit)
                run("sacctmgr", "-i", "add", "user", user, f"account={name}")
                known = ("scontrol", "show", "assoc_mgr", "flags=assoc", f"accounts={name}")
                ManagedJobs.until(lambda known=known: f"UserName={user}(" in run(*known))
            yield
        finally:
            run(SCRIPT, "clean")


@pytest.mark.skipif(not ENFORCED, reason=NOT_ENFORCED)
def test_a_worker_that_is_out_of_memory(tmp_path):
    with ManagedJobs(tmp_path, "slurm", EATS) as twister2:
        options = ("-o", "job.memory_mb=400", "-o", "job.attempts=1")
        code, _, err = twister2.run("submit", "slurm", "-n", 1, *options, "program.py")
        assert code == 1, err
        assert "worker 0 was ended by the kernel: out of memory (limit 400 MiB)" in err
        assert "job.memory_mb" in err


@pytest.mark.skipif(not ENFORCED, reason=NOT_ENFORCED)
@pytest.mark.parametrize(
    ("worker", "master", "words"),
    [
        (EATING, None, "slot 0 exited 137 (out of memory)"),
        (SLEEP, EATING, "used more memory than it asked for; raise job.memory_mb (OutOfMemory)"),
    ],
    ids=["copy", "job master"],
)
def test_a_process_that_is_out_of_memory(jobs, worker, master, words):
    backend = jobs.backend(hold_s=0.0, master_restarts=0)
    _, handle = jobs.submit(worker, master, backend=backend, groups=(ResourceGroup("w", 1, memory_mb=100),))
    status = jobs.ended(backend, handle)
    assert status.state is JobState.FAILED
    assert words in status.reason


def test_how_jobs_ended_that_the_controller_has_forgotten(jobs):
    backend, failed = jobs.submit("exit 0", "exit 3", n=1)
    _, done = jobs.submit("exit 0", "exit 0", n=1)
    _, cancelled = jobs.submit(SLEEP, SLEEP, n=1)
    jobs.until(lambda: backend.state(cancelled).state is JobState.RUNNING)
    run("scancel", cancelled.native_id)
    jobs.until(lambda: not jobs.shown("%i"), 200)
    later = jobs.backend()
    for handle, state, reason in (
        (failed, JobState.FAILED, "its script ended with exit code 3 (FAILED)"),
        (done, JobState.COMPLETED, ""),
        (cancelled, JobState.KILLED, f"was cancelled by {pwd.getpwuid(os.getuid()).pw_name}"),
    ):
        status = jobs.ended(later, handle)  # slurmdbd may be behind
        assert (status.state, status.reason) == (state, reason)
        later.kill(handle, 0.0)
        assert later.state(handle).state is state
        assert later.clean(handle) == []


@pytest.mark.parametrize(
    ("options", "said", "remedy"),
    [
        ({"account": "nosuch"}, "Invalid account or account/partition combination", "rm.slurm.account"),
        ({"qos": "nosuch"}, "Invalid qos", "rm.slurm.qos"),
    ],
)
def test_an_account_or_quality_of_service_that_there_is_not(jobs, options, said, remedy):
    with pytest.raises(SubmissionRefusedError) as caught:
        jobs.submit(SLEEP, n=1, backend=jobs.backend(**options))
    assert said in caught.value.why
    assert remedy in caught.value.remedy


def test_an_account_whose_jobs_run_one_after_the_other(jobs):
    backend = jobs.backend(account="one")
    _, first = jobs.submit(SLEEP, SLEEP, n=1, backend=backend)
    jobs.until(lambda: backend.state(first).state is JobState.RUNNING)
    _, second = jobs.submit(SLEEP, SLEEP, n=1, backend=backend)
    status = jobs.until(lambda: found if "AssocGrp" in (found := backend.state(second)).reason else None)
    words = "a limit of the account, user or quality of service is reached (AssocGrpJobsLimit)"
    assert (status.state, status.reason) == (JobState.QUEUED, words)
    backend.kill(first, 0.0)
    jobs.until(lambda: backend.state(second).state is JobState.RUNNING)
    backend.kill(second, 0.0)


def test_an_account_that_may_submit_no_more(jobs):
    backend = jobs.backend(account="few")
    _, first = jobs.submit(SLEEP, SLEEP, n=1, backend=backend)
    with pytest.raises(SubmissionRefusedError) as caught:
        jobs.submit(SLEEP, SLEEP, n=1, backend=backend)
    assert "AssocMaxSubmitJobLimit" in caught.value.why
    assert "wait for jobs of yours to end" in caught.value.remedy
    backend.kill(first, 0.0)


def test_doctor_with_an_account_that_there_is_not(tmp_path):
    with ManagedJobs(tmp_path, "slurm") as twister2:
        code, out, err = twister2.run("doctor", "slurm", "-o", "rm.slurm.account=nosuch")
        assert code == 1, err
        assert "ok       accounting: sacct answers" in out
        assert "failed   job of one worker: Slurm did not accept the job: " in out
        assert "Invalid account" in out
        assert "try: choose an account you may charge: rm.slurm.account" in out
        assert twister2.jobs() == []
    assert run("squeue", "-h", "--account=nosuch") == ""
