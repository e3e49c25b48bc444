"""The time of a job is counted from its first worker, whatever manager it has, and ends it once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from twister2.master import walltime
from twister2.spec.errors import ResourceError
from twister2.spec.rm import JobState


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A job in a queue, at the time ``job.now``, which is whatever the test says."""
    job: Any = SimpleNamespace(state=JobState.QUEUED, killed=[], now=1000.0)
    job.facts = SimpleNamespace(config=SimpleNamespace(walltime_s=10, kill_grace_s=3.0, walltime_warn_s=5.0))
    job.checkpoints = SimpleNamespace(latest=0)
    job.attempt, job.said, job.told = 1, [], []
    job.slots = [
        SimpleNamespace(number=0, phase="joined", peer=b"0"),
        SimpleNamespace(number=1, phase="lost", peer=b"1"),
    ]
    job.relay = SimpleNamespace(warn=job.said.append)
    job.journal = SimpleNamespace(event=lambda kind, **facts: job.said.append(kind))
    job.post = lambda peer, kind, body: job.told.append((peer, kind, body["kind"], body["text"]))

    def kill(reason: str) -> None:
        job.killed.append(reason)
        job.state = JobState.KILLED

    job.kill = kill
    monkeypatch.setattr(walltime.time, "monotonic", lambda: job.now)
    monkeypatch.setattr(walltime.time, "time", lambda: job.now)
    monkeypatch.delenv(walltime.DEADLINE, raising=False)
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


def test_the_end_that_the_manager_has_set_is_not_waited_for(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its programs have their grace, and what is to be told is told, before the manager kills everything."""
    job.facts.config.walltime_s = 0
    job.state = JobState.RUNNING
    monkeypatch.setenv(walltime.DEADLINE, "2000")
    watch = walltime.Walltime(job)
    assert look_at(job, watch, 1000, 1986.9) == []
    (why,) = look_at(job, watch, 1987.1, 1988, 3000)
    assert "time limit of the resource manager" in why
    assert "job.walltime_s" in why


@pytest.mark.parametrize("text", ["", "soon", "-1"])
def test_a_time_that_is_none_is_no_limit(job: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    job.facts.config.walltime_s = 0
    job.state = JobState.RUNNING
    monkeypatch.setenv(walltime.DEADLINE, text)
    assert look_at(job, walltime.Walltime(job), 1000, 1e9) == []


def test_what_the_manager_says_of_the_end_counts_and_may_change(job: Any) -> None:
    job.facts.config.walltime_s = 0
    job.state = JobState.RUNNING
    watch = walltime.Walltime(job)
    assert look_at(job, watch, 1000, 5000) == []
    watch.ends_at(6000.0)
    watch.ends_at(0.0)  # it does not say
    assert look_at(job, watch, 5900) == []
    watch.ends_at(7000.0)
    assert look_at(job, watch, 6500) == []
    assert len(look_at(job, watch, 6987.1)) == 1


def test_programs_are_warned_once(job: Any) -> None:
    job.state = JobState.RUNNING
    watch = walltime.Walltime(job)
    look_at(job, watch, 1000, 1004)
    assert job.told == job.said == []
    assert look_at(job, watch, 1006, 1007) == []
    assert job.told == [(b"0", "event", "time", "the time of the job is over in 4 s")]
    assert job.said == ["time_nearly_over", "warning: the time of the job is over in 4 s\n"]


@pytest.fixture
def renewed(job: Any) -> list[float]:
    """When the job was begun anew."""
    job.state = JobState.RUNNING
    job.renewed = []
    job.renew = lambda refused: job.renewed.append(job.now)
    found: list[float] = job.renewed
    return found


def test_a_job_begins_anew_at_the_first_commit_after_the_warning(job: Any, renewed: list[float]) -> None:
    watch = walltime.Walltime(job, job.renew)
    look_at(job, watch, 1000)
    job.checkpoints.latest = 3
    look_at(job, watch, 1001, 1006)
    assert renewed == []
    job.checkpoints.latest = 4
    assert look_at(job, watch, 1007, 1008, 2000) == []
    assert renewed == [1007]


def test_a_job_begins_anew_from_an_earlier_commit_when_none_comes(job: Any, renewed: list[float]) -> None:
    watch = walltime.Walltime(job, job.renew)
    look_at(job, watch, 1000)
    job.checkpoints.latest = 3
    assert look_at(job, watch, 1006, 1009.9, 1010.1, 1011) == []
    assert renewed == [1010.1]


def test_a_job_that_commits_nothing_does_not_begin_anew_for_ever(job: Any, renewed: list[float]) -> None:
    job.checkpoints.latest = 7  # of its run before
    (why,) = look_at(job, walltime.Walltime(job, job.renew), 1000, 1006, 1010.1)
    assert renewed == []
    assert "has committed nothing" in why


REFUSED = ResourceError("it could not be put back", why="not allowed", remedy="submit it again")


def test_a_job_that_is_not_begun_anew_ends_with_its_time(job: Any, renewed: list[float]) -> None:
    """It is tried again until half of what is spared for its end in order is over."""
    watch = walltime.Walltime(job, job.renew)
    look_at(job, watch, 1000, 1006)
    job.checkpoints.latest = 1
    for now in range(1007, 1030):
        look_at(job, watch, now)
        if watch._renewing:
            watch.not_renewed(REFUSED)
    assert renewed == [1007, 1009, 1011, 1013]
    (why,) = job.killed
    assert "not allowed" in why
    assert job.now > 1015
    assert len([text for text in job.said if "not allowed" in text]) == 1


def test_a_manager_that_was_away_begins_the_job_anew_when_it_is_back(job: Any, renewed: list[float]) -> None:
    watch = walltime.Walltime(job, job.renew)
    look_at(job, watch, 1000, 1006)
    job.checkpoints.latest = 1
    look_at(job, watch, 1007)
    watch.not_renewed(REFUSED)
    assert look_at(job, watch, 1008, 1009, 1012, 1020) == []
    assert renewed == [1007, 1009]


@pytest.mark.parametrize(("restarts", "kills"), [("", 1), ("0", 1), ("2", 0)])
def test_each_run_of_a_job_that_began_anew_has_all_its_time(
    job: Any, monkeypatch: pytest.MonkeyPatch, restarts: str, kills: int
) -> None:
    job.state = JobState.RUNNING
    monkeypatch.setenv(walltime.RESTARTS, restarts)
    watch = walltime.Walltime(job)
    watch.began(500.0)
    assert len(look_at(job, watch, 1000)) == kills
