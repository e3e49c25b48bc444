"""Ending and removing what a job has with its resource manager."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from twister2.client import jobs
from twister2.client.records import JobRecord, JobSummary
from twister2.control.channel import Listener
from twister2.control.releasing import release
from twister2.control.ticket import curve_pair
from twister2.master.journal import Journal
from twister2.master.returning import Note
from twister2.spec.errors import ResourceError, UsageError
from twister2.spec.rm import JobHandle, JobState, JobStatus

HANDLE = JobHandle("fake", "job-1", "1")


class Backend:
    """Notes what is asked of it."""

    def __init__(self, *, kill: str = "", clean: str = "", left: tuple[str, ...] = ()) -> None:
        self._kill, self._clean, self._left = kill, clean, left
        self.asked: list[str] = []

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        self.asked.append("kill")
        if self._kill:
            raise ResourceError(self._kill, why="why", remedy="none")

    def clean(self, handle: JobHandle) -> list[str]:
        self.asked.append("clean")
        if self._clean:
            raise ResourceError(self._clean, why="", remedy="none")
        return list(self._left)

    def state(self, handle: JobHandle) -> JobStatus:
        return JobStatus(JobState.RUNNING)

    def open_channel(self, handle: JobHandle) -> Any:
        raise ResourceError("nobody listens", why="a test", remedy="none")

    def close(self) -> None:
        self.asked.append("close")


@pytest.mark.parametrize(
    ("backend", "left"),
    [
        (Backend(), []),
        (Backend(kill="no kill"), ["no kill (why)"]),
        (Backend(clean="no clean"), ["no clean"]),
        (Backend(kill="no kill", left=("a file",)), ["no kill (why)", "a file"]),
    ],
)
def test_what_cannot_be_ended_does_not_keep_the_rest(backend: Any, left: list[str]) -> None:
    assert release(backend, HANDLE, 0.0) == left
    assert backend.asked == ["kill", "clean"]


@pytest.fixture
def job(tmp_path: pathlib.Path) -> JobSummary:
    folder = tmp_path / "jobs" / "job-1"
    folder.mkdir(parents=True)
    handle = {"rm": "fake", "job_id": "job-1", "native_id": "1", "facts": {}}
    record = JobRecord(
        job_id="job-1",
        name="n",
        program="p",
        n_workers=1,
        profile="fake",
        handle=handle,
        addresses=(),
        master_in_client=True,
        master_public="",
        client_key="",
        resolved={},
        pins={},
        master_process=None,
    )
    record.write(folder)
    return JobSummary(record, folder, JobState.FAILED, {})


def use(monkeypatch: pytest.MonkeyPatch, backend: Backend, job: JobSummary, **state: Any) -> None:
    (job.folder / "state.json").write_text(json.dumps({"state": "failed", **state}))
    monkeypatch.setattr(jobs, "backend_of", lambda _: backend)
    monkeypatch.setattr(jobs, "status_of", lambda _: {"state": "failed"})


@pytest.mark.parametrize("trouble", [{"kill": "it runs on"}, {"left": ("it runs on",)}])
def test_clean_keeps_the_record_of_a_job_of_which_something_is_left(
    monkeypatch: pytest.MonkeyPatch, job: JobSummary, trouble: dict[str, Any]
) -> None:
    backend = Backend(**trouble)
    use(monkeypatch, backend, job)
    with pytest.raises(ResourceError, match="something of it is left") as raised:
        jobs.clean(job)
    assert "it runs on" in raised.value.why
    assert (job.folder / "record.json").exists()
    assert backend.asked == ["kill", "clean", "close"]
    use(monkeypatch, Backend(), job)
    jobs.clean(job)
    assert not job.folder.exists()


def test_clean_of_a_job_that_runs_says_so(monkeypatch: pytest.MonkeyPatch, job: JobSummary) -> None:
    """Its record may know less than its master."""
    use(monkeypatch, Backend(), job)
    monkeypatch.setattr(jobs, "status_of", lambda _: {"state": "running"})
    with pytest.raises(UsageError, match="because: it is running"):
        jobs.clean(job)


def test_clean_of_what_its_master_has_tidied_needs_nobody(monkeypatch: pytest.MonkeyPatch, job: JobSummary) -> None:
    use(monkeypatch, Backend(kill="it runs on another host"), job, tidied=True)
    jobs.clean(job)
    assert not job.folder.exists()


def test_a_kill_is_written_down_before_anything_is_ended(monkeypatch: pytest.MonkeyPatch, job: JobSummary) -> None:
    """Whoever sees the consequences first, the client that follows the job above all, finds the reason."""
    running = attrs.evolve(job, state=JobState.RUNNING)
    use(monkeypatch, Backend(), running, state="running")
    seen: list[Any] = []

    def look(_: JobSummary) -> None:
        journal = Journal(job.folder)
        seen.append(journal.end(JobState.FAILED, ResourceError("its master has gone", why="signal", remedy="again")))
        journal.close()

    monkeypatch.setattr(jobs, "_as_submitted", lambda _: (None, SimpleNamespace(job=SimpleNamespace(log_limit_mb=1))))
    monkeypatch.setattr(jobs, "_end_master", look)
    assert jobs.kill(running)
    ((state, error),) = seen
    assert (state, error.why) == (JobState.KILLED, "twister2 kill")


def test_a_job_that_had_failed_by_itself_was_not_killed(monkeypatch: pytest.MonkeyPatch, job: JobSummary) -> None:
    """Only its manager knew: it was detached, and shares no files with this shell."""
    running = attrs.evolve(job, state=JobState.RUNNING)
    use(monkeypatch, Backend(), running, state="running")
    failed = JobState.FAILED, ResourceError("bad luck", why="long ago", remedy="none")
    monkeypatch.setattr(jobs, "_as_submitted", lambda _: (None, SimpleNamespace(job=SimpleNamespace(log_limit_mb=1))))
    monkeypatch.setattr(jobs, "_end_master", lambda _: None)
    monkeypatch.setattr(jobs, "_fetched", lambda *_: failed)
    monkeypatch.setattr(jobs, "remove_rest", lambda *_: None)
    jobs.kill(running)
    written = json.loads((job.folder / "state.json").read_text())
    assert (written["state"], written["error"]["why"], "killing" in written) == ("failed", "long ago", False)


def test_a_job_that_cannot_be_killed_is_not_about_to_be(monkeypatch: pytest.MonkeyPatch, job: JobSummary) -> None:
    running = attrs.evolve(job, state=JobState.RUNNING)
    use(monkeypatch, Backend(kill="it runs on"), running, state="running")
    monkeypatch.setattr(jobs, "_as_submitted", lambda _: (None, SimpleNamespace(job=SimpleNamespace(log_limit_mb=1))))
    with pytest.raises(ResourceError, match="could not be ended: it may still run"):
        jobs.kill(running)
    assert json.loads((job.folder / "state.json").read_text()) == {"state": "running"}


def test_the_master_of_another_shells_client_is_asked_where_it_listens(job: JobSummary) -> None:
    """It took a free port: the record does not know it."""
    public, secret = curve_pair()
    listener = Listener(["tcp://127.0.0.1:*"], public, secret)
    (job.folder / "addresses").write_text(" ".join(listener.addresses))
    asked: list[str] = []

    def serve() -> None:
        while "kill" not in asked and (got := listener.receive(20)) is not None:
            peer, message = got
            asked.append(message.kind)
            answers = {"knock": "open", "attach": "attached", "kill": "ended"}
            listener.send(peer, answers.get(message.kind, "none"), {})

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        reached = attrs.evolve(job, record=attrs.evolve(job.record, master_public=public))
        with jobs.master_of(reached, Backend()) as dialer:  # type: ignore[arg-type]
            assert dialer.request("kill", {}, ("ended",), 20).kind == "ended"
    finally:
        thread.join()
        listener.close()


def test_a_master_that_the_system_does_not_let_go_is_an_error_in_time(
    monkeypatch: pytest.MonkeyPatch, job: JobSummary
) -> None:
    from twister2.worker.processes import start_ticks

    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        monkeypatch.setattr(jobs, "MASTER_ENDS_S", 0.2)
        monkeypatch.setattr(jobs, "end_process", lambda pid, number: None)
        where = (os.uname().nodename, process.pid, start_ticks(process.pid))
        stuck = attrs.evolve(job, record=attrs.evolve(job.record, master_process=where))
        with pytest.raises(ResourceError, match="could not be ended"):
            jobs._end_master(stuck)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("leaves", [True, False])
def test_a_wait_outlasts_the_master_that_tells_the_end(
    monkeypatch: pytest.MonkeyPatch, job: JobSummary, leaves: bool
) -> None:
    """What the manager keeps is removed, and how the job ended written down, by who asks when the master has gone."""
    asked: list[str] = []

    def status_of(job: JobSummary) -> dict[str, Any]:
        asked.append("status")
        if len(asked) == 2 and leaves:
            (job.folder / "state.json").write_text(json.dumps({"state": "completed"}))
        return {"state": "completed"}

    monkeypatch.setattr(jobs, "status_of", status_of)
    if not leaves:
        monkeypatch.setattr(jobs, "LEAVES_S", 0.0)
    assert jobs.wait_for(job, 0.0 if leaves else None) == {"state": "completed"}
    assert len(asked) == (3 if leaves else 2)


@pytest.mark.parametrize(
    ("said", "same_host", "state", "asked"),
    [
        ((JobState.UNKNOWN, JobState.RUNNING), False, "running", ["close"]),
        ((JobState.UNKNOWN, JobState.UNKNOWN), False, "failed", ["kill", "clean", "close"]),
        ((JobState.UNKNOWN,), True, "failed", ["kill", "clean", "close"]),
    ],
)
def test_a_manager_that_knows_nothing_of_a_job_is_asked_twice(
    monkeypatch: pytest.MonkeyPatch,
    job: JobSummary,
    said: tuple[JobState, ...],
    same_host: bool,
    state: str,
    asked: list[str],
) -> None:
    """Its server may have been started again a moment ago: a job that runs would be ended for that."""
    backend: Any = Backend()
    answers, pauses = [JobStatus(each) for each in said], list[float]()
    backend.offers = SimpleNamespace(same_host=same_host, shared_files={"state"}, restarts_master=False)
    backend.state = lambda handle: answers.pop(0)
    monkeypatch.setattr(jobs, "backend_of", lambda job: backend)
    resolved = SimpleNamespace(job=SimpleNamespace(log_limit_mb=1))
    monkeypatch.setattr(jobs, "_as_submitted", lambda job: (None, resolved))
    monkeypatch.setattr(jobs, "remove_rest", lambda *_: None)
    monkeypatch.setattr(jobs, "time", SimpleNamespace(sleep=pauses.append))
    assert jobs.status_of(job)["state"] == state
    assert (backend.asked, answers, len(pauses)) == (asked, [], len(said) - 1)


def detached(monkeypatch: pytest.MonkeyPatch, backend: Any, note: Note, state: JobState) -> None:
    """A manager that keeps the notes of a master which cannot be reached from here."""
    backend.offers = SimpleNamespace(same_host=False, shared_files=set(), restarts_master=True)
    backend.remembered = lambda handle: note.encode()
    backend.logs = lambda handle, follow=False: []
    backend.state = lambda handle: JobStatus(state)
    monkeypatch.setattr(jobs, "backend_of", lambda job: backend)
    resolved = SimpleNamespace(job=SimpleNamespace(log_limit_mb=1))
    monkeypatch.setattr(jobs, "_as_submitted", lambda job: (None, resolved))
    monkeypatch.setattr(jobs, "_end_master", lambda _: None)
    monkeypatch.setattr(jobs, "remove_rest", lambda *_: None)


FAILED = {"state": "failed", "error": ResourceError("bad luck", why="long ago", remedy="none").to_dict()}


@pytest.fixture
def far(job: JobSummary) -> JobSummary:
    """A job whose master cannot be reached from here."""
    return attrs.evolve(job, state=JobState.QUEUED, record=attrs.evolve(job.record, master_in_client=False))


def test_an_end_that_the_master_has_noted_is_known_while_its_process_is_still_there(
    monkeypatch: pytest.MonkeyPatch, far: JobSummary
) -> None:
    """It was stopped, say, or what had started it was: nothing is ended or removed for a question."""
    backend = Backend()
    detached(monkeypatch, backend, Note(1, 2, 1, 0.0, 0, [(0, 1, "w")], 1, FAILED), JobState.RUNNING)
    facts = jobs.status_of(far)
    assert (facts["state"], facts["error"]["what"], "ended" in facts) == ("failed", "bad luck", True)
    assert facts["reason"] == "bad luck"
    assert backend.asked == ["close"]


def test_what_a_master_does_that_cannot_be_reached_is_what_it_has_noted(
    monkeypatch: pytest.MonkeyPatch, far: JobSummary
) -> None:
    note = Note(1, 2, 1, 0.0, 0, [(0, 3, "w")], 3, None, "restarting", "worker 1 was lost", 1000.0)
    detached(monkeypatch, Backend(), note, JobState.RUNNING)
    facts = jobs.status_of(far)
    assert (facts["state"], facts["reason"], facts["noted"]) == ("restarting", "worker 1 was lost", 1000.0)
    assert (facts["attempt"], facts["n_workers"]) == (2, 3)
    detached(monkeypatch, Backend(), note, JobState.QUEUED)  # it waits to be begun anew
    assert jobs.status_of(far)["state"] == "queued"
    backend: Any = Backend()
    detached(monkeypatch, backend, note, JobState.RUNNING)
    backend.state = lambda handle: JobStatus(JobState.RUNNING, "the job master waits for a node")
    assert jobs.status_of(far)["reason"] == "worker 1 was lost; the job master waits for a node"


def test_a_master_whose_files_are_seen_here_notes_its_start_only(
    monkeypatch: pytest.MonkeyPatch, far: JobSummary
) -> None:
    """What it noted then says nothing of what the job does now."""
    backend: Any = Backend()
    detached(monkeypatch, backend, Note(1, 1, 1, 0.0, 0, [(0, 1, "w")], 1), JobState.RUNNING)
    backend.offers.shared_files = {"state"}
    facts = jobs.status_of(far)
    assert (facts["state"], "noted" in facts) == ("running", False)


CANCELLED = {"state": "killed", "error": ResourceError("cancelled", why="by root", remedy="none").to_dict()}


@pytest.mark.parametrize(
    ("ended", "state", "how"),
    [
        (FAILED, JobState.RUNNING, "failed"),
        (CANCELLED, JobState.RUNNING, "killed"),
        (None, JobState.COMPLETED, "completed"),
        (None, JobState.KILLED, "killed"),
    ],
)
def test_a_kill_of_a_job_that_had_ended_unnoticed_says_so(
    monkeypatch: pytest.MonkeyPatch, far: JobSummary, ended: dict[str, Any] | None, state: JobState, how: str
) -> None:
    """By its master's note, or by what its manager says; somebody else may have killed it."""
    detached(monkeypatch, Backend(), Note(1, 1, 1, 0.0, 0, [(0, 1, "w")], 1, ended), state)
    assert not jobs.kill(far)
    written = json.loads((far.folder / "state.json").read_text())
    assert (written["state"], "killing" in written) == (how, False)


def test_a_kill_whose_answer_was_lost_is_one(monkeypatch: pytest.MonkeyPatch, far: JobSummary) -> None:
    """Its master takes long to leave, and has noted the end that it was asked for."""
    asked = {"state": "killed", "error": ResourceError("killed", why="twister2 kill", remedy="none").to_dict()}
    detached(monkeypatch, Backend(), Note(1, 1, 1, 0.0, 0, [(0, 1, "w")], 1, asked), JobState.RUNNING)
    assert jobs.kill(far)


def test_a_kill_of_a_job_that_runs_is_one(monkeypatch: pytest.MonkeyPatch, far: JobSummary) -> None:
    detached(monkeypatch, Backend(), Note(1, 1, 1, 0.0, 0, [(0, 1, "w")], 1), JobState.RUNNING)
    assert jobs.kill(far)
    assert json.loads((far.folder / "state.json").read_text())["state"] == "killed"


def test_of_many_jobs_those_are_waited_for_together_that_take_long(
    monkeypatch: pytest.MonkeyPatch, job: JobSummary
) -> None:
    together = threading.Barrier(5, timeout=60)

    def status_of(job: JobSummary) -> dict[str, Any]:
        together.wait()
        return {"job": job.record.job_id}

    monkeypatch.setattr(jobs, "status_of", status_of)
    many = [attrs.evolve(job, record=attrs.evolve(job.record, job_id=f"job-{number}")) for number in range(5)]
    assert jobs.statuses_of(many) == [{"job": f"job-{number}"} for number in range(5)]
    assert jobs.statuses_of([]) == []
