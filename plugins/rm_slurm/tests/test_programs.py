"""Slurm's programs pretended by small scripts: what the plugin makes of their answers."""

from __future__ import annotations

import pickle
import threading
import time

import pytest

from twister2.spec.errors import (
    MissingToolError,
    ResourceError,
    ResourcesExceededError,
    SubmissionRefusedError,
)
from twister2.spec.rm import Allocation, JobHandle, JobState, ResourceGroup, RmContext
from twister2_rm_slurm import commands, queue
from twister2_rm_slurm.config import SlurmConfig
from twister2_rm_slurm.ending import OWN_END_S
from twister2_rm_slurm.files import Files
from twister2_rm_slurm.logs import LogReader
from twister2_rm_slurm.plan import Plan
from twister2_rm_slurm.plugin import SlurmPlugin


@pytest.fixture
def slurm(tmp_path):
    """Returns a function that makes a backend whose programs are these lines of shell."""

    def make(timeout_s=30.0, options=None, **programs):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, lines in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
            (folder / name).chmod(0o755)
        return SlurmPlugin().rm_create(
            SlurmConfig(bin=str(folder), **(options or {})), RmContext(str(tmp_path), timeout_s)
        )

    return make


@pytest.fixture
def allocation(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    command = ("true",)
    groups = (ResourceGroup("w", 2),)
    return Allocation("job-1", "x", groups, command, command, {}, b"t", b"m", str(folder))


HANDLE = JobHandle("slurm", "job-1", "12", {"folder": "/nowhere"})
LINE = "12|%s|%s|N/A|n1|n1|twister2:job-1 /nowhere"


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        (
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            SubmissionRefusedError,
            "sinfo",
        ),
        (
            "sbatch: error: Memory specification can not be satisfied\n"
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            ResourcesExceededError,
            "job.memory_mb",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            SubmissionRefusedError,
            "rm.slurm.account",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid qos specification",
            SubmissionRefusedError,
            "rm.slurm.qos",
        ),
        (
            "sbatch: error: AssocMaxSubmitJobLimit\n"
            "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's "
            "size and/or time limits)",
            SubmissionRefusedError,
            "wait for jobs of yours to end",
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            ResourceError,
            "scontrol ping",
        ),
        ("", SubmissionRefusedError, "--dry-run"),
    ],
)
def test_refusals_are_told_and_nothing_stays_behind(slurm, allocation, tmp_path, message, error, words):
    backend = slurm(sbatch=f"echo {message!r} >&2; exit 1".replace("\\n", "\n"), squeue="true")
    with pytest.raises(error) as caught:
        backend.submit(allocation)
    assert words in str(caught.value)
    assert list((tmp_path / "job").iterdir()) == []


def test_a_job_whose_acceptance_was_never_heard_of_is_cancelled(slurm, allocation, tmp_path):
    backend = slurm(
        timeout_s=4.0,
        sbatch="exec sleep 30",
        squeue=f"echo '{LINE % ('PENDING', 'Priority')}'",
        scancel=f"echo $1 >{tmp_path}/cancelled",
    )
    with pytest.raises(ResourceError, match="no answer within 4 s"):
        backend.submit(allocation)
    assert (tmp_path / "cancelled").read_text() == "12\n"


def test_a_job_that_begins_between_two_looks_was_not_put_back(slurm, tmp_path):
    """The second look finds an old answer of squeue, and what the script has written since."""
    folder = tmp_path / "job"
    (folder / "slurm").mkdir(parents=True)
    handle = JobHandle("slurm", "job-1", "12", {"folder": str(folder)})
    (tmp_path / "state").write_text("PENDING")
    backend = slurm(timeout_s=60.0, squeue=f"printf '{LINE}\\n' $(cat {tmp_path}/state) None")
    backend.find("job-1")
    assert backend.state(handle).reason == "waits in the queue"
    (tmp_path / "state").write_text("RUNNING")
    (folder / "slurm" / "master-host").write_text("n1\n")
    status = backend.state(handle)
    assert (status.state, status.reason) == (JobState.RUNNING, "")
    (tmp_path / "state").write_text("PENDING")
    backend.find("job-1")
    assert backend.state(handle).reason == "was put back into the queue; waits in the queue"


def test_programs_that_are_absent(slurm, allocation, tmp_path):
    backend = slurm()
    with pytest.raises(MissingToolError, match="sbatch"):
        backend.submit(allocation)
    with pytest.raises(MissingToolError, match="squeue"):
        backend.state(HANDLE)
    assert list((tmp_path / "job").iterdir()) == []
    assert "#SBATCH --ntasks=2" in backend.render(allocation)
    probe = SlurmPlugin().rm_probe(SlurmConfig(bin=str(tmp_path)))
    assert not probe.ok
    assert "sinfo" in probe.text
    assert probe.remedy


def test_controller_down_is_an_error_and_the_next_question_is_asked_anew(slurm, tmp_path):
    backend = slurm(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ResourceError, match="controller does not answer"):
        backend.state(HANDLE)
    slurm(squeue=f"echo '{LINE % ('PENDING', 'Resources')}'")
    assert backend.state(HANDLE).state is JobState.QUEUED


def test_one_call_answers_for_all_jobs_of_a_second(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "FRESH_S", 600.0)  # of a busy machine
    backend = slurm(
        squeue=f"""echo x >>{tmp_path}/calls
            echo '{LINE % ("RUNNING", "None")}\n13|PENDING|Priority|N/A|n1|n1|twister2:b /'"""
    )
    assert backend.state(HANDLE).state is JobState.RUNNING
    assert backend.state(JobHandle("slurm", "b", "13")).reason == "waits behind jobs of higher priority (Priority)"
    assert (tmp_path / "calls").read_text() == "x\n"
    monkeypatch.setattr(queue, "FRESH_S", 0.0)
    time.sleep(0.01)
    backend.state(HANDLE)
    assert (tmp_path / "calls").read_text() == "x\nx\n"


def test_accounting_is_asked_for_jobs_that_slurm_has_forgotten(slurm):
    unknown = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    backend = slurm(squeue="true", scontrol=unknown, sacct="echo '12|OUT_OF_MEMORY|0:125'")
    assert backend.state(HANDLE).state is JobState.FAILED
    backend = slurm(squeue="true", scontrol=unknown, sacct="echo disabled >&2; exit 1")
    assert backend.state(HANDLE).state is JobState.UNKNOWN


def test_a_recycled_number_is_not_our_job(slurm):
    backend = slurm(squeue="echo '12|RUNNING|None|N/A|n1|n1|twister2:other /n'")
    assert backend.state(HANDLE).state is JobState.UNKNOWN
    backend.kill(HANDLE, 1.0)


def test_a_kill_that_is_not_allowed(slurm):
    backend = slurm(
        squeue=f"echo '{LINE % ('PENDING', 'Resources')}'",
        scancel="echo 'scancel: error: Kill job error on job id 12: Access/permission denied' >&2; exit 210",
    )
    with pytest.raises(ResourceError, match=r"could not be cancelled") as caught:
        backend.kill(HANDLE, 0.1)
    assert "Access/permission denied" in caught.value.why
    assert "Access/permission denied" in backend.clean(HANDLE)[0]


def test_a_job_that_does_not_go_away(slurm):
    backend = slurm(timeout_s=3.0, squeue=f"echo '{LINE % ('COMPLETING', 'None')}'", scancel="true")
    with pytest.raises(ResourceError, match="still shows it as COMPLETING"):
        backend.kill(HANDLE, 0.1)


def test_a_kill_ends_a_job_that_goes_back_into_the_queue_at_this_moment(slurm, tmp_path, monkeypatch):
    """Slurm shows it as failed at the first look."""
    monkeypatch.setattr(queue, "BACK_S", 0.0)
    backend = slurm(
        options={"requeue": True},
        squeue=f"""echo x >>{tmp_path}/looks
if [ -e {tmp_path}/cancelled ]; then echo '{LINE % ("CANCELLED", "None")}'
elif [ "$(wc -l <{tmp_path}/looks)" -eq 1 ]; then echo '{LINE % ("FAILED", "None")}'
else echo '{LINE % ("PENDING", "BeginTime")}'; fi""",
        scancel=f"touch {tmp_path}/cancelled",
    )
    backend.kill(HANDLE, 0.1)
    assert (tmp_path / "cancelled").exists()


def test_a_job_that_goes_back_into_the_queue_while_it_is_killed_is_cancelled_again(slurm, tmp_path):
    (tmp_path / "calls").touch()
    late = "echo 'scancel: error: Kill job error on job id 12: Job/step already completing or completed' >&2; exit 1"
    backend = slurm(
        squeue=f"""case $(wc -l <{tmp_path}/calls) in
0) echo '{LINE % ("RUNNING", "None")}' ;;
1) echo '{LINE % ("PENDING", "BeginTime")}' ;;
*) echo '{LINE % ("CANCELLED", "None")}' ;;
esac""",
        scancel=f"echo x >>{tmp_path}/calls; [ $(wc -l <{tmp_path}/calls) -gt 1 ] || {{ {late}; }}",
    )
    backend.kill(HANDLE, 0.1)
    assert (tmp_path / "calls").read_text() == "x\nx\n"


def test_who_follows_logs_stays_when_the_job_goes_back_into_the_queue(slurm, allocation, tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "BACK_S", 0.0)
    monkeypatch.setattr(queue, "FRESH_S", 0.0)
    plan = Plan.of(allocation, SlurmConfig())
    plan.files.make()
    plan.save()
    log = plan.files.slot_log(0, "stdout")
    backend = slurm(
        options={"requeue": True, "poll_s": 0.1},
        squeue=f"""echo x >>{tmp_path}/looks
case $(wc -l <{tmp_path}/looks) in
1) echo first >>{log}; echo '{LINE % ("FAILED", "None")}' ;;
2) echo '{LINE % ("PENDING", "BeginTime")}' ;;
3) echo second >>{log}; echo '{LINE % ("RUNNING", "None")}' ;;
*) echo 0 >{plan.files.ended}; echo '{LINE % ("COMPLETED", "None")}' ;;
esac""",
        scontrol="exit 1",
    )
    handle = JobHandle("slurm", "job-1", "12", {"folder": allocation.folder})
    assert "".join(chunk.text for chunk in backend.logs(handle, follow=True)) == "first\nsecond\n"


@pytest.mark.parametrize(
    "answer", ["exec sleep 60", "mkdir {files}/more-0000-13.json; echo 13"], ids=["no answer", "no record"]
)
def test_an_additional_job_that_nobody_knows_of_is_cancelled(slurm, allocation, tmp_path, answer):
    plan = Plan.of(allocation, SlurmConfig())
    plan.files.make()
    plan.save()
    added = "13|PENDING|Priority|N/A|n1|n1|twister2-more:job-1 /nowhere"
    backend = slurm(
        timeout_s=4.0,
        sbatch=f"touch {tmp_path}/added; {answer.format(files=plan.files.root)}",
        squeue=f"echo '{LINE % ('RUNNING', 'None')}'; [ ! -e {tmp_path}/added ] || echo '{added}'",
        scancel=f"echo $* >>{tmp_path}/cancelled",
    )
    handle = JobHandle("slurm", "job-1", "12", {"folder": allocation.folder})
    with pytest.raises(ResourceError):
        backend.resize(handle, 3)
    assert (tmp_path / "cancelled").read_text() == "13\n"
    assert not plan.files.size.exists()
    assert plan.files.step_logs() == []


def test_closed_points(slurm):
    backend = slurm(srun="echo 'MPI plugin types are...'; echo ' pmix'; echo ' none'; echo ' pmi2'")
    assert backend.offers.worlds == {"pmi2", "pmix"}
    assert slurm(srun="exit 1").offers.worlds <= {"pmi2"}
    assert pickle.loads(pickle.dumps(HANDLE)) == HANDLE
    backend.close()
    backend.close()


def test_an_allocation_around_the_caller_does_not_shape_the_new_job():
    base = {
        "SLURM_JOB_ID": "5",
        "SLURM_CONF": "/c",
        "SQUEUE_STATES": "R",
        "SBATCH_PARTITION": "p",
        "SBATCH_ACCOUNT": "a",
        "SBATCH_EXPORT": "NONE",
        "PATH": "/bin",
    }
    clean = commands.environment(SlurmConfig(partition="mine"), base)
    assert clean == {"SLURM_CONF": "/c", "SBATCH_ACCOUNT": "a", "PATH": "/bin"}


def test_the_master_is_reached_only_by_addresses_that_lead_there(slurm, tmp_path):
    backend = slurm()
    files = Files.of(str(tmp_path / "j"))
    handle = JobHandle("slurm", "job-1", "12", {"folder": str(tmp_path / "j")})
    files.make()
    with pytest.raises(ResourceError, match="cannot be reached yet"):
        backend.open_channel(handle)
    backend.publish(handle, b'{"addresses": ["ipc:///x", "tcp://127.0.0.1:5", "tcp://10.0.0.1:5"]}')
    assert files.ticket.stat().st_mode & 0o777 == 0o600
    files.master_host.write_text("elsewhere\n")
    with backend.open_channel(handle) as addresses:
        assert addresses == ["tcp://10.0.0.1:5"]
    backend.publish(handle, b'{"addresses": []}')
    with pytest.raises(ResourceError, match="no address"):
        backend.open_channel(handle)


def test_logs_are_read_on_and_characters_are_never_torn(tmp_path):
    files = Files.of(str(tmp_path))
    files.make()
    reader = LogReader(files, lambda: 2, None)
    assert list(reader.read()) == []
    whole = "größe\n".encode()
    files.slot_log(1, "stderr").write_bytes(whole[:3])
    assert [chunk.text for chunk in reader.read()] == ["gr"]
    with open(files.slot_log(1, "stderr"), "ab") as file:
        file.write(whole[3:])
    files.log.write_text("slurmstepd: error\n")
    chunks = list(reader.read())
    assert [(chunk.slot, chunk.stream, chunk.text) for chunk in chunks] == [
        (-1, "manager", "slurmstepd: error\n"),
        (1, "stderr", "öße\n"),
    ]
    assert [chunk.slot for chunk in LogReader(files, lambda: 2, 1).read()] == [1]


@pytest.fixture
def begun(slurm, allocation, tmp_path):
    """Makes a backend, and the handle of a job whose copies have begun; ``srun`` is how many of them run on a node."""

    def make(srun):
        over, running = LINE % ("COMPLETED", "None"), LINE % ("RUNNING", "None")
        alive = f"[ -e {tmp_path}/over ] && echo '{over}' || echo '{running}'"
        scancel = f"touch {tmp_path}/cancelled {tmp_path}/over"
        backend = slurm(srun=f"echo {srun}", squeue=alive, scontrol="exit 1", sacct="exit 1", scancel=scancel)
        plan = Plan.of(allocation, SlurmConfig())
        plan.files.make()
        plan.save()
        for slot in range(plan.n_workers):
            plan.files.slot_log(slot, "stdout").touch()
        return backend, JobHandle("slurm", "job-1", "12", {"folder": allocation.folder}), plan.files

    return make


def test_a_job_whose_copies_have_gone_is_not_cancelled_when_its_script_is_late(begun, tmp_path):
    backend, handle, files = begun(srun=0)

    def script():
        files.ended.write_text("0")
        (tmp_path / "over").touch()

    late = threading.Timer(4 * OWN_END_S, script)
    late.start()
    backend.kill(handle, 0.2)
    late.join()
    assert not (tmp_path / "cancelled").exists()
    assert not files.killed.exists()


@pytest.mark.parametrize(
    ("copies", "said"),
    [("$(case $* in (*twister2-count*) echo 2;; (*) echo 0;; esac)", ""), (0, "step ended with exit code 3\n")],
)
def test_a_job_whose_copies_run_or_that_is_held_for_another_attempt_is_cancelled(begun, tmp_path, copies, said):
    backend, handle, files = begun(srun=copies)
    files.step_log(1, 0).write_text(f"slots 0-1\n{said}")
    backend.kill(handle, 0.2)
    assert (tmp_path / "cancelled").exists()
    assert files.killed.exists()
