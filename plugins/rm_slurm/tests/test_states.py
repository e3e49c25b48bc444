from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.rm import JobState
from twister2_rm_slurm import states
from twister2_rm_slurm.states import Row

line = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=40)


@given(st.lists(st.integers(0, 50), min_size=1))
def test_compress_and_expand_are_inverse(numbers):
    assert states.expand(states.compress(numbers)) == numbers


@given(st.integers(1, 10**9), st.sampled_from(sorted(states.STATES)), line)
def test_a_row_of_squeue_is_read_back_whatever_the_comment_holds(native_id, state, folder):
    note = states.comment("job-1", "/f" + folder)
    (row,) = states.parse_squeue(f"{native_id}|{state}|None|N/A|n1|n[1-2]|{note}\n")
    assert (row.native_id, row.state, row.job()) == (str(native_id), state, ("job-1", "/f" + folder))


def test_jobs_of_others_are_not_ours():
    (row,) = states.parse_squeue("7|RUNNING|None|N/A|n1|n1|(null)\n")
    assert row.job() is None
    assert states.parse_squeue("garbage\n\n") == []


@pytest.mark.parametrize(
    ("state", "host", "nodes", "headless"),
    [
        ("RUNNING", "n1", "n[1-2]", False),
        ("RUNNING", "n1", "n2", True),
        ("RUNNING", "c09", "c[08-10,12],login", False),
        ("RUNNING", "c9", "c[08-10,12],login", True),
        ("RUNNING", "r1n2", "r[0-1]n[2-3]", False),
        ("RUNNING", "r2n2", "r[0-1]n[2-3]", True),
        ("COMPLETING", "n1", "n2", False),
        ("PENDING", "n/a", "", False),
        ("RUNNING", "", "n1", False),
        ("RUNNING", "n1", "n[x]", False),
    ],
)
def test_whether_the_node_of_the_script_has_gone(state, host, nodes, headless):
    (row,) = states.parse_squeue(f"7|{state}|None|N/A|{host}|{nodes}|twister2:job-1 /f\n")
    assert row.headless is headless


@given(
    st.sampled_from(sorted(states.STATES.keys() - {"CANCELLED"})),
    st.sampled_from([*sorted(states.REASONS), "None", "Weird", "QOSMaxCpu"]),
)
def test_each_state_is_told_in_words_with_slurms_own_in_parentheses(state, reason):
    row = Row("1", state, reason)
    text = states.describe(row)
    ours = states.job_state(state)
    assert ours is not JobState.UNKNOWN
    if ours in (JobState.QUEUED, JobState.FAILED, JobState.KILLED):
        assert text
        assert "(" in text or reason == "None"
    if reason != "None" and text:
        assert reason in text


@pytest.mark.parametrize(
    ("row", "state", "words"),
    [
        (Row("1", "PENDING", "Resources"), JobState.QUEUED, "waits for free nodes (Resources)"),
        (Row("1", "PENDING", "ReqNodeNotAvail, UnavailableNodes:n1"), JobState.QUEUED, "a node it needs is down"),
        (Row("1", "PENDING", "QOSMaxJobsPerUserLimit"), JobState.QUEUED, "a limit of the account"),
        (Row("1", "PENDING", "AssocGrpCpuLimit"), JobState.QUEUED, "a limit of the account"),
        (Row("1", "FAILED", "NonZeroExitCode", "", (3, 0)), JobState.FAILED, "exit code 3 (NonZeroExitCode)"),
        (Row("1", "FAILED", "NonZeroExitCode", "", (0, 53)), JobState.FAILED, "file system that nodes and this host"),
        (Row("1", "FAILED", "RaisedSignal:9", "", (0, 9)), JobState.FAILED, "ended by signal 9"),
        (
            Row("1", "OUT_OF_MEMORY", "OutOfMemory", "", (0, 125)),
            JobState.FAILED,
            "used more memory than it asked for; raise job.memory_mb (OutOfMemory)",
        ),
        (Row("1", "TIMEOUT", "TimeLimit"), JobState.KILLED, "time limit"),
        (Row("1", "NODE_FAIL", "None"), JobState.FAILED, "a node failed (NODE_FAIL)"),
        (Row("1", "CANCELLED by 4294967290", ""), JobState.KILLED, "was cancelled by user 4294967290"),
        (Row("1", "CANCELLED by 0", "Resources"), JobState.KILLED, "was cancelled by root"),
        (Row("1", "CANCELLED", "DependencyNeverSatisfied"), JobState.KILLED, "(DependencyNeverSatisfied)"),
        (Row("1", "REQUEUED", ""), JobState.RESTARTING, "put back into the queue"),
        (Row("1", "BRAND_NEW", ""), JobState.UNKNOWN, "Slurm calls its state BRAND_NEW"),
    ],
)
def test_states_and_reasons(row, state, words):
    assert states.job_state(row.state) is state
    assert words in states.describe(row)


@pytest.mark.parametrize("waited_for", ["Resources", "Priority", "BeginTime", "JobHeldUser", "None"])
def test_what_a_cancelled_job_waited_for_is_not_why_it_ended(waited_for):
    assert states.describe(Row("1", "CANCELLED", waited_for)) == "was cancelled"


CANCELLED_AT = "slurmstepd-n1: error: *** JOB 4 ON n1 CANCELLED AT 2026-11-23T05:48:56"


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (f"module loaded\n{CANCELLED_AT} ***\nTerminated\n", "was cancelled"),
        (f"{CANCELLED_AT} ***\n{CANCELLED_AT} DUE TO TIME LIMIT ***\n", "was cancelled due to time limit"),
        (f"it said: {CANCELLED_AT} ***\n", ""),
        (f"{CANCELLED_AT} DUE TO JOB REQUEUE ***\nrun 2 {states.AGAIN}\n", ""),
        (f"{CANCELLED_AT} DUE TO JOB REQUEUE ***\nrun 2 {states.AGAIN}\n{CANCELLED_AT} ***\n", "was cancelled"),
        ("slurmstepd: error: *** STEP 4.0 ON n1 CANCELLED AT 2026-11-23T05:48:57 ***\n", ""),
    ],
)
def test_why_a_job_is_ended_as_its_log_says(log, why):
    assert states.why_ended(log) == why


def test_scontrol():
    text = (
        "JobId=10 JobName=JobState=X s2 UserId=root(0) JobState=CANCELLED Reason=None Dependency=(null) "
        "ExitCode=0:15 RunTime=00:00:01 Comment=twister2:a /b c StdOut=/tmp/a b.log Power="
    )
    row = states.parse_scontrol(text.replace("JobState=X ", ""))
    assert row == Row("10", "CANCELLED", "None", exit_code=(0, 15))
    assert states.parse_scontrol("slurm_load_jobs error") is None


SAID = """slots 10-14,3
srun: error: n3: task 4: Segmentation fault (core dumped)
srun: error: n1: task 0: Exited with exit code 3
srun: error: n2: tasks 2-3: Exited with exit code 4
srun: error: n1: task 1: Out Of Memory
srun: error: n1: task 99: Killed
srun: something else
"""
BAD = {
    10: "exited 3",
    11: "exited 137 (out of memory)",
    12: "exited 4",
    13: "exited 4",
    14: "exited 139 (segmentation fault)",
}


def test_how_copies_ended_is_read_from_what_srun_said():
    slots = [10, 11, 12, 13, 14, 3]
    assert states.ended_slots(SAID) == (slots, BAD)
    assert states.ended_slots(SAID + "step ended with exit code 139\n") == (slots, {**BAD, 3: "exited 0"})
    assert states.ended_slots("slots 0-1\nstep ended with exit code 0\n") == ([0, 1], {0: "exited 0", 1: "exited 0"})
    refused = "slots 0-1\nsrun: error: Unable to create step\nstep ended with exit code 1\n"
    assert states.ended_slots(refused) == ([0, 1], {})
    with pytest.raises(ValueError, match="invalid literal"):
        states.ended_slots("srun: error")


MPI = """slots 0-1
srun: error: cannot find mpi plugin for mpi/nonsense
srun: error: MPI: Unable to load any plugin
srun: error: Invalid MPI type 'nonsense', --mpi=list for acceptable types
"""


def test_a_process_world_that_srun_does_not_have_is_told_from_other_refusals():
    assert states.refused(MPI) == ""  # it has not ended yet
    told = states.refused(MPI + "step ended with exit code 1\n")
    assert "rm.slurm.mpi" in told
    assert "Invalid MPI type 'nonsense'" in told
    assert "srun --mpi=list" in told
    for other in ("", "srun: error: Unable to create step\n", "Invalid MPI type, says the program\n"):
        assert states.refused(f"slots 0-1\n{other}step ended with exit code 1\n") == ""
    started = "srun: error: n1: task 0: Exited with exit code 3\n"
    assert states.refused(MPI + started + "step ended with exit code 3\n") == ""
    assert states.refused(MPI + "step ended with exit code 0\n") == ""


def test_a_failure_names_the_first_culprits():
    row = Row("1", "FAILED", "NonZeroExitCode", exit_code=(3, 0))
    reason = states.with_culprits(states.status(row, {**BAD, 3: "exited 0"}))
    assert reason.endswith("slot 10 exited 3, slot 11 exited 137 (out of memory), slot 12 exited 4 and 2 more")


@pytest.mark.parametrize(
    ("shown", "restarts", "back"),
    [
        ("JobId=7 JobState=PENDING Requeue=1 Restarts=1 ", 0, True),
        ("JobId=7 JobState=COMPLETING Requeue=1 Restarts=1 ", 0, True),
        ("JobId=7 JobState=COMPLETING Requeue=1 Restarts=1 ", 1, False),
        ("JobId=7 JobState=CANCELLED Requeue=1 Restarts=1 ", 0, False),
        ("JobId=7 JobState=TIMEOUT Requeue=1 Restarts=0 ", 0, False),
        ("slurm_load_jobs error: Invalid job id specified", 0, False),
    ],
)
def test_a_job_that_goes_back_is_told_from_one_that_ends(shown, restarts, back):
    assert states.goes_back(shown, restarts) is back
