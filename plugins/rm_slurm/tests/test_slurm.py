"""Against a real Slurm: what the conformance suite does not know of."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import time

import pytest

from twister2.spec.errors import CapabilityError, ResourceError, ResourcesExceededError, SubmissionRefusedError
from twister2.spec.rm import JobState, ResourceGroup
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.plugin import SlurmPlugin

pytestmark = [pytest.mark.needs_slurm, pytest.mark.timeout(240)]
SLEEP = "exec sleep 300"


def in_queue(handle):
    shown = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout
    return handle.native_id in shown.split()


def test_a_job_with_its_master_runs_to_its_end(jobs):
    worker = 'echo "$TWISTER2_SLOT|$GREETING|$1|$(cat "$TWISTER2_TICKET")|$TWISTER2_MASTER_TICKET"; sleep 1'
    backend, handle = jobs.submit(worker, 'cat "$TWISTER2_MASTER_TICKET"; sleep 2')
    follower = "".join(chunk.text for chunk in backend.logs(handle, follow=True))
    assert jobs.ended(backend, handle).state is JobState.COMPLETED
    for slot in range(3):
        assert jobs.output(backend, handle, slot) == f"{slot}|a 'b' \"c\" $d|an 'odd' argument|first ticket|\n"
    assert follower.count("an 'odd' argument") == 3
    assert "of the master" in follower
    folder = f"{handle.facts['folder']}/slurm"
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert not [name for name in os.listdir(folder) if name.endswith("ticket")], "keys outlive the job"
    assert backend.clean(handle) == []
    assert backend.state(handle).state is JobState.UNKNOWN
    assert "an 'odd' argument" in jobs.output(backend, handle, 0), "logs stay until the folder goes"


def test_the_masters_exit_code_is_the_jobs(jobs):
    backend, handle = jobs.submit(SLEEP, "sleep 0.5; exit 9")
    status = jobs.ended(backend, handle)
    assert (status.state, status.reason) == (
        JobState.FAILED,
        "its script ended with exit code 9 (NonZeroExitCode)",
    )
    jobs.until(lambda: not in_queue(handle))


def test_secrets_show_nowhere(jobs):
    backend, handle = jobs.submit(SLEEP, SLEEP, ticket=b"s3cr3t-1", master_ticket=b"s3cr3t-2")
    jobs.until(lambda: backend.state(handle).state is JobState.RUNNING)
    shown = [
        ["scontrol", "show", "job", handle.native_id],
        ["scontrol", "write", "batch_script", handle.native_id, "-"],
    ]
    for command in shown:
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert handle.job_id in text
        assert "s3cr3t" not in text
    for entry in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                assert b"s3cr3t" not in pathlib.Path("/proc", entry, name).read_bytes()
    backend.kill(handle, 0.5)


def test_slots_are_started_again_and_stopped(jobs):
    worker = 'echo started; [ -e "$TWISTER2_TICKET.again" ] || exit 5; exec sleep 300'
    backend, handle = jobs.submit(worker, SLEEP)
    jobs.until(lambda: len(backend.state(handle).slots) == 3)
    assert set(backend.state(handle).slots.values()) == {"exited 5"}
    ticket = f"{handle.facts['folder']}/slurm/ticket"
    open(f"{ticket}.again", "w").close()
    backend.publish(handle, b"second ticket")
    other = jobs.backend()
    other.start_attempt(handle, 2, [0, 2])
    jobs.until(
        lambda: jobs.output(backend, handle, 0).count("started") + jobs.output(backend, handle, 2).count("started") == 4
    )
    assert jobs.output(backend, handle, 1).count("started") == 1
    assert backend.state(handle).slots == {1: "exited 5"}
    other.stop_attempt(handle, [0], 0.5)
    other.stop_attempt(handle, [0], 0.5)
    jobs.until(lambda: 0 in backend.state(handle).slots)
    assert 2 not in backend.state(handle).slots
    jobs.until(lambda: backend.state(handle).state is JobState.RUNNING)
    other.kill(handle, 0.5)
    with pytest.raises(ResourceError, match="its allocation has ended"):
        backend.start_attempt(handle, 3, [0])


def test_a_process_world_has_rank_equal_slot_and_is_started_whole(jobs):
    worker = 'echo "$PMI_RANK of $PMI_SIZE is $TWISTER2_SLOT"; sleep 300'
    backend, handle = jobs.submit(worker, SLEEP, world="pmi2", n=4)
    wanted = [f"{slot} of 4 is {slot}\n" for slot in range(4)]
    jobs.until(lambda: [jobs.output(backend, handle, slot) for slot in range(4)] == wanted)
    with pytest.raises(CapabilityError, match="only slots 1"):
        backend.start_attempt(handle, 2, [1], "pmi2")
    backend.stop_attempt(handle, range(4), 0.5)
    jobs.until(lambda: len(backend.state(handle).slots) == 4)
    backend.start_attempt(handle, 2, range(4), "pmi2")
    jobs.until(lambda: [jobs.output(backend, handle, slot) for slot in range(4)] == [text * 2 for text in wanted])
    backend.kill(handle, 0.5)


def test_with_the_master_in_the_client_the_allocation_waits_for_the_next_attempt(jobs):
    worker = 'echo started; [ -e "$TWISTER2_TICKET.again" ] || exit 5; exec sleep 300'
    backend, handle = jobs.submit(worker, backend=jobs.backend(hold_s=20))
    jobs.until(lambda: len(backend.state(handle).slots) == 3)
    time.sleep(2)
    assert backend.state(handle).state is JobState.RUNNING
    open(f"{handle.facts['folder']}/slurm/ticket.again", "w").close()
    backend.start_attempt(handle, 2, range(3))
    jobs.until(lambda: jobs.output(backend, handle, 1).count("started") == 2)
    backend.stop_attempt(handle, range(3), 0.2)
    jobs.until(lambda: len(backend.state(handle).slots) == 3)
    assert backend.clean(handle) == []
    assert not in_queue(handle)


def test_an_allocation_that_nobody_wants_ends_by_itself(jobs):
    backend, handle = jobs.submit("exit 4", backend=jobs.backend(hold_s=1))
    assert jobs.ended(backend, handle).reason.startswith("its script ended with exit code 4")
    backend, handle = jobs.submit("exit 0", backend=jobs.backend(hold_s=60))
    assert jobs.ended(backend, handle).state is JobState.COMPLETED


def test_kill_reaches_processes_that_left_their_session(jobs):
    escape = 'setsid sh -c \'trap "" TERM; echo $$ >"$OUT"; while :; do sleep 0.2; done\' & wait'
    out = jobs.root / "escaped"
    backend, handle = jobs.submit(escape, SLEEP, n=1, environment={"OUT": str(out)})
    pid = jobs.until(lambda: out.exists() and out.read_text().strip())
    jobs.backend().kill(handle, 0.5)
    jobs.until(lambda: not jobs.lives(pid))
    assert not in_queue(handle)
    assert jobs.backend().state(handle).state is JobState.KILLED
    backend.kill(handle, 0.5)


def test_what_can_never_run_is_refused_or_says_so(jobs):
    with pytest.raises(SubmissionRefusedError, match="did not accept") as caught:
        jobs.submit(SLEEP, backend=jobs.backend(partition="nosuch"))
    assert "invalid partition" in caught.value.why.lower()
    with pytest.raises(ResourcesExceededError) as exceeded:
        jobs.submit(SLEEP, groups=(ResourceGroup("w", 1, memory_mb=10**7),))
    assert "job.memory_mb" in exceeded.value.remedy
    with pytest.raises(ResourceError) as gpus:
        jobs.submit(SLEEP, groups=(ResourceGroup("w", 1, gpus=1),))
    assert "job.gpus" in gpus.value.remedy
    backend, handle = jobs.submit(SLEEP, n=5000)
    status = jobs.until(lambda: found if (found := backend.state(handle)).reason.endswith(")") else None)
    assert status.state is JobState.QUEUED
    assert re.search(r"it may never start \(Partition\w+\)", status.reason)
    backend.kill(handle, 0.0)
    assert backend.state(handle).state is JobState.KILLED


def test_more_workers_than_cpus_when_asked_for(jobs):
    backend, handle = jobs.submit("echo here; sleep 1", "sleep 3", n=40, oversubscribe=True)
    assert jobs.ended(backend, handle).state is JobState.COMPLETED
    assert [jobs.output(backend, handle, slot) for slot in (0, 39)] == ["here\n", "here\n"]


def test_a_folder_that_nodes_cannot_write_is_told(jobs):
    backend, handle = jobs.submit(SLEEP, SLEEP, backend=jobs.backend(sbatch=("--hold",)))
    assert "held by the user" in backend.state(handle).reason
    shutil.rmtree(handle.facts["folder"])
    subprocess.run(["scontrol", "release", handle.native_id], check=True)
    status = jobs.ended(backend, handle)
    assert status.state is JobState.FAILED
    assert "job.state_dir" in status.reason
    assert list(backend.logs(handle)) == []
    backend.kill(handle, 0.1)


def test_walltime(jobs):
    backend, handle = jobs.submit(SLEEP, SLEEP, walltime_s=3600)
    shown = subprocess.run(["squeue", "-h", "-j", handle.native_id, "-o", "%l|%j"], capture_output=True, text=True)
    limit, name = shown.stdout.strip().split("|")
    assert limit == "1:00:00"
    assert re.fullmatch(r"a-test-unicode-x{45}", name)
    backend.kill(handle, 0.1)


def test_found_from_another_shell_without_a_record(jobs):
    _, handle = jobs.submit(SLEEP, SLEEP)
    assert jobs.backend().find(handle.job_id) == handle
    assert jobs.backend().find("no-such-job") is None
    assert json.loads(json.dumps(dict(handle.facts))) == handle.facts
    jobs.backend().kill(handle, 0.1)


def test_prologue_and_chosen_variables(jobs, monkeypatch):
    monkeypatch.setenv("UNWANTED", "1")
    monkeypatch.setenv("WANTED", "2")
    backend = jobs.backend(prologue=("LOADED=yes", "export LOADED"), export=("WANTED",))
    _, handle = jobs.submit('echo "$LOADED $WANTED $UNWANTED."; sleep 1', "sleep 2", n=1, backend=backend)
    jobs.ended(backend, handle)
    assert jobs.output(backend, handle, 0) == "yes 2 .\n"


def test_probe():
    assert SlurmPlugin().rm_probe(SlurmConfig()).ok
    probe = SlurmPlugin().rm_probe(SlurmConfig(partition="nosuch"))
    assert not probe.ok
    assert "nosuch" in probe.text
