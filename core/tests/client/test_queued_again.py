"""A job that its manager begins anew waits in the queue again, for as long as that takes: its client waits with it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from twister2.client import masters
from twister2.spec.errors import ResourceError
from twister2.spec.rm import JobHandle, JobState, JobStatus


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A master that nobody hears, at the time ``master.now``; its manager says ``master.status``."""
    backend = SimpleNamespace(offers=SimpleNamespace(restarts_master=True), state=lambda handle: made.status)
    job = SimpleNamespace(start_deadline_s=120.0, master_return_s=30.0)
    made: Any = masters.AllocationMaster(SimpleNamespace(backend=backend, job=job))  # type: ignore[arg-type]
    made.tell(JobHandle("slurm", "job-1", "7"))
    made.now = made.silent_since = 1000.0
    made._connection = SimpleNamespace(get=None)
    made.heard = []
    made._tell = lambda state, reason: made.heard.append(reason)
    monkeypatch.setattr("twister2.client.masters.time.monotonic", lambda: made.now)
    return made


def look_at(master: Any, status: JobStatus, *times: float) -> list[Any]:
    master.status, found = status, []
    for now in times:
        master.now = now
        master._connection = SimpleNamespace(absent_s=now - master.silent_since)
        found.append(master.lost())
    return found


def test_a_queue_is_waited_in_for_ever(master: Any) -> None:
    waits = JobStatus(JobState.QUEUED, "was put back into the queue; waits for free nodes (Resources)")
    assert look_at(master, waits, 1010, 1100, 1200, 1300, 90_000, 90_010) == [None] * 6
    assert "waits for free nodes" in master.heard[-1]


def test_a_master_that_does_not_come_once_the_job_runs_is_lost(master: Any) -> None:
    waits, runs = JobStatus(JobState.QUEUED, "waits"), JobStatus(JobState.RUNNING)
    assert look_at(master, waits, *range(1010, 1300, 50)) == [None] * 6
    assert look_at(master, runs, 1300, 1400) == [None] * 2
    (error,) = look_at(master, runs, 1260 + 151)
    assert "the job master was lost" in error.what


def test_a_manager_that_knows_nothing_of_the_job_before_and_after_it_was_away(master: Any) -> None:
    def away(handle: JobHandle) -> JobStatus:
        raise ResourceError("Nomad does not answer", why="a test", remedy="none")

    gone, backend = JobStatus(JobState.UNKNOWN, "Nomad knows no such job (any more)"), master._prepared.backend
    there = backend.state
    assert look_at(master, gone, 1010) == [None]
    backend.state = away
    assert look_at(master, gone, 1020) == [None]
    backend.state, backend.logs = there, lambda handle: []
    assert look_at(master, gone, 1030, 1032) == [None] * 2
    (error,) = look_at(master, gone, 1034)
    assert "knows no such job" in str(error)


def test_without_a_queue_a_silent_master_is_lost(master: Any) -> None:
    runs = JobStatus(JobState.RUNNING)
    assert look_at(master, runs, 1100, 1149) == [None] * 2
    assert look_at(master, runs, 1151) != [None]
