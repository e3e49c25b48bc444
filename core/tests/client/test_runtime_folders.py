"""Folders of jobs whose one process has gone, and jobs whose master said nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from twister2.client.runtime import OWNER, own, sweep
from twister2.client.silent import HEADLINE, LAST_WORDS, ended_silently, ending, last_words
from twister2.control.folders import runtime_path
from twister2.spec.errors import JobKilledError, ResourceError
from twister2.spec.rm import JobState, JobStatus, LogChunk

OWNED = """
import sys, time
from twister2.client.runtime import own
own("job-dead")
print("owned", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as path:  # short: sockets lie there
        monkeypatch.setenv("TMPDIR", path)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_the_folder_of_a_killed_process_is_swept_and_others_are_not():
    mine = own("job-mine")
    other = runtime_path("job-with-processes")
    other.mkdir()
    with subprocess.Popen([sys.executable, "-c", OWNED], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"owned\n"
        assert sweep() == [], "it lives"
        process.send_signal(signal.SIGKILL)
    assert sweep() == [runtime_path("job-dead")]
    assert not runtime_path("job-dead").exists()
    assert other.exists()
    assert (runtime_path("job-mine") / OWNER).exists()
    os.close(mine)
    assert sweep() == [runtime_path("job-mine")]


def test_a_folder_that_others_may_enter_is_left_alone():
    os.close(own("job-1"))
    runtime_path("job-1").parent.chmod(0o755)
    assert sweep() == []


def test_no_folder_at_all():
    assert sweep() == []


def test_what_the_manager_knows_is_the_headline():
    reason = "srun refused its option --mpi, which is set by rm.slurm.mpi: Couldn't find it; 'srun --mpi=list' shows"
    what, why = ending(JobStatus(JobState.FAILED, reason=reason))
    assert what == "the job ended: srun refused its option --mpi, which is set by rm.slurm.mpi"
    assert reason in why
    what, _ = ending(JobStatus(JobState.FAILED, reason="x " * 500))
    assert len(what) < HEADLINE + 30
    what, why = ending(JobStatus(JobState.FAILED))
    assert "without its job master saying how" in what
    assert "failed" in why


class Kept:
    """A resource manager that has kept some output, or cannot be asked."""

    def __init__(self, *chunks, fails=False):
        self.chunks, self.fails = chunks, fails

    def logs(self, handle):
        if self.fails:
            raise ResourceError("the manager is away", why="it was stopped", remedy="ask again")
        yield from (LogChunk(slot, "manager", text) for slot, text in self.chunks)


def test_what_a_master_wrote_before_it_could_be_reached_is_told():
    echoed = 'worker-1 | a line\nevent | {"event": "x"}\n'
    said = last_words(
        Kept((0, "a worker's\n"), (-1, echoed + "[T2-N501] the job mas"), (-1, "ter cannot listen\n")), None
    )
    assert said == "[T2-N501] the job master cannot listen"
    error = ended_silently(JobStatus(JobState.FAILED, reason="the master exited 1"), said)
    assert error.what == "the job ended: the master exited 1"
    assert said in error.why
    assert said in ended_silently(JobStatus(JobState.FAILED), said).why
    assert isinstance(ended_silently(JobStatus(JobState.KILLED, "was cancelled")), JobKilledError)


def test_last_words_are_short_and_never_an_error_of_their_own():
    assert last_words(Kept(fails=True), None) == ""
    assert last_words(Kept((-1, "early " * 10_000), (-1, "late")), None).endswith("late")
    assert len(last_words(Kept((-1, "x" * 100_000)), None)) == LAST_WORDS


def test_an_old_folder_with_nothing_in_it_is_swept():
    for name in ("job-old", "job-new", "job-used"):
        runtime_path(name).parent.mkdir(mode=0o700, exist_ok=True)
        runtime_path(name).mkdir()
    (runtime_path("job-used") / "master").touch()
    for name in ("job-old", "job-used"):
        os.utime(runtime_path(name), (1_000_000, 1_000_000))
    assert sweep() == [runtime_path("job-old")]
    assert runtime_path("job-new").exists()
    assert (runtime_path("job-used") / "master").exists()
