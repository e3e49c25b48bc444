"""The time of a job is counted from its first worker, whatever manager it has, and ends it once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from twister2.master import walltime
from twister2.spec.rm import JobState


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A job in a queue, at the time ``job.now``, which is whatever the test says."""
    job: Any = SimpleNamespace(state=JobState.QUEUED, killed=[], now=1000.0)
    job.facts = SimpleNamespace(config=SimpleNamespace(walltime_s=10))

    def kill(reason: str) -> None:
        job.killed.append(reason)
        job.state = JobState.KILLED

    job.kill = kill
    monkeypatch.setattr(walltime.time, "monotonic", lambda: job.now)
    return job


def look_at(job: Any, watch: walltime.Walltime, *times: float) -> list[str]:
    for now in times:
        job.now = now
        watch.look()
    return job.killed


def test_waiting_in_a_queue_does_not_count(job: Any) -> None:
    watch = walltime.Walltime(job)
    assert look_at(job, watch, 1000, 5000) == []
    job.state = JobState.STARTING
    assert look_at(job, watch, 6000, 6009.9) == []
    job.state = JobState.RESTARTING  # another attempt has no time of its own
    (why,) = look_at(job, watch, 6010.1, 6011, 7000)
    assert "10 s" in why
    assert "job.walltime_s" in why


def test_without_a_limit(job: Any) -> None:
    job.facts.config.walltime_s = 0
    job.state = JobState.RUNNING
    assert look_at(job, walltime.Walltime(job), 1000, 1e9) == []


def test_a_job_that_has_ended_is_left_alone(job: Any) -> None:
    watch = walltime.Walltime(job)
    job.state = JobState.RUNNING
    look_at(job, watch, 1000)
    job.state = JobState.COMPLETED
    assert look_at(job, watch, 2000) == []
