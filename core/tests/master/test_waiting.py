"""Until all workers have joined: what the manager's queue takes is not what their start takes."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twister2.spec.rm import JobState, JobStatus

SPEC = importlib.util.spec_from_file_location("kit_test_job", Path(__file__).with_name("test_job.py"))
assert SPEC is not None
assert SPEC.loader is not None
TEST_JOB = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TEST_JOB)

RUNS = JobStatus(JobState.RUNNING)
QUEUED = JobStatus(JobState.QUEUED, "waits for free nodes (Resources)")
ROOM = "waits: no node has room for it: Insufficient cpu"
ONE_WAITS = "1 of 2 workers wait: no node has room for it: Insufficient cpu"
NO_ROOM = JobStatus(JobState.RUNNING, "some wait", {0: ROOM, 1: ROOM})
DAY_S = 86_400


class Clock:
    """Of the waiting alone: minutes pass there, and nobody is lost meanwhile."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("twister2.master.waiting.time", clock)
    return clock


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> Iterator[Any]:
    world = TEST_JOB.World(tmp_path, start_deadline_s=120.0)
    yield world
    world.calls.close()
    world.journal.close()


def later(world: Any, clock: Clock, seconds: float, status: JobStatus | None = None) -> None:
    """Time passes; the manager says this."""
    clock.now += seconds
    if status is not None:
        world.job.rm_status(status)
    error = world.job.waiting.overdue(world.job.slots, clock.now)
    if error is not None:
        world.job.fail(error)


def test_the_first_worker_of_a_job_that_was_queued_for_long_begins_its_start(world: Any, clock: Clock) -> None:
    """It may come before the manager is heard to say that the job runs."""
    later(world, clock, 0, QUEUED)
    assert (world.job.state, world.job.reason) == (JobState.QUEUED, "waits for free nodes (Resources)")
    later(world, clock, DAY_S)
    world.hello("w0", 0)
    later(world, clock, 100)
    assert (world.job.state, world.job.reason) == (JobState.STARTING, "workers are joining")
    later(world, clock, 21)
    assert world.job.error is not None
    assert "not all workers joined within 120 s" in world.job.error.what
    assert "missing are: 1" in world.job.error.why


def test_the_time_of_a_job_begins_where_the_queue_ends(world: Any) -> None:
    for begun in (world.job, world.job.returning):
        begun.begun -= DAY_S
    world.join_all()
    for worker in ("w0", "w1"):
        world.ended(worker)
    assert world.events("job_ended")[0]["seconds"] < DAY_S / 2
    assert world.job.returning.begun > time.time() - DAY_S / 2


def test_a_master_that_has_a_place_waits_for_its_workers_in_the_queue(world: Any, clock: Clock) -> None:
    later(world, clock, 1, NO_ROOM)
    for _ in range(3):
        later(world, clock, DAY_S, NO_ROOM)
    assert world.job.state is JobState.QUEUED
    assert world.job.reason == "2 of 2 workers wait: no node has room for it: Insufficient cpu"
    later(world, clock, 1, JobStatus(JobState.RUNNING, "", {0: "its container is being made"}))
    later(world, clock, 119)
    assert world.job.error is None
    later(world, clock, 2)
    assert world.job.error is not None
    assert "within 120 s" in world.job.error.what


def test_some_workers_have_a_place_and_one_has_not(world: Any, clock: Clock) -> None:
    world.hello("w0", 0)
    held = JobStatus(JobState.STARTING, "1 of 2 copies have no node", {1: ROOM})
    later(world, clock, 1, held)
    later(world, clock, DAY_S, held)
    assert (world.job.state, world.job.reason) == (JobState.STARTING, f"workers are joining; {ONE_WAITS}")
    world.hello("w1", 1)
    assert (world.job.state, world.job.reason) == (JobState.RUNNING, "")
    later(world, clock, DAY_S, held)
    assert world.job.state is JobState.RUNNING


def test_a_next_attempt_waits_for_room_and_says_so(world: Any, clock: Clock) -> None:
    world.join_all()
    world.job.slots[1].heard -= 30
    world.job.tick()
    world.ended("w0", returned=False, failed=True)
    assert (world.job.state, world.job.reason) == (JobState.RESTARTING, "attempt 2 of 3: worker 1 was lost")
    later(world, clock, 1, JobStatus(JobState.RUNNING, "", {1: ROOM}))
    later(world, clock, DAY_S)
    assert world.job.state is JobState.RESTARTING
    assert world.job.reason == f"attempt 2 of 3: worker 1 was lost; {ONE_WAITS}"
    later(world, clock, 1, RUNS)
    assert world.job.reason == "attempt 2 of 3: worker 1 was lost"
    later(world, clock, 121, JobStatus(JobState.RUNNING, "the image is being pulled"))
    assert world.job.error is not None
    assert "the resource manager says: the image is being pulled" in world.job.error.why


@pytest.mark.parametrize("joined", [False, True])
def test_the_queue_has_a_deadline_of_its_own(tmp_path: Path, clock: Clock, joined: bool) -> None:
    world = TEST_JOB.World(tmp_path, start_deadline_s=120.0, queue_deadline_s=1000.0)
    if joined:
        world.hello("w0", 0)
    later(world, clock, 0, JobStatus(JobState.STARTING, "", {1: ROOM}))
    for _ in range(9):
        later(world, clock, 110, JobStatus(JobState.STARTING, "", {1: ROOM}))
    assert world.job.error is None
    later(world, clock, 20)
    assert world.job.error is not None
    assert "in the queue for longer than 1000 s" in world.job.error.what
    assert "job.queue_deadline_s is 1000" in world.job.error.why
    assert f"the resource manager says: {ONE_WAITS}" in world.job.error.why
    world.calls.close()
    world.journal.close()


STARTS = JobStatus(JobState.STARTING, "nodes are being prepared (CONFIGURING)")
GONE = JobStatus(JobState.UNKNOWN, "Nomad knows no such job (any more)")


def test_a_start_without_a_worker_has_the_deadline_of_starts(world: Any, clock: Clock) -> None:
    later(world, clock, 0, QUEUED)
    later(world, clock, DAY_S, STARTS)
    later(world, clock, 119, STARTS)
    assert world.job.error is None
    later(world, clock, 2, STARTS)
    assert world.job.error is not None
    assert "not all workers joined within 120 s" in world.job.error.what
    assert "the resource manager says: nodes are being prepared (CONFIGURING)" in world.job.error.why


def test_a_job_that_is_put_back_into_the_queue_waits_there(world: Any, clock: Clock) -> None:
    later(world, clock, 0, RUNS)
    later(world, clock, 100, QUEUED)
    later(world, clock, DAY_S, QUEUED)
    assert world.job.error is None
    later(world, clock, 1, RUNS)
    later(world, clock, 121)
    assert world.job.error is not None


def test_who_has_come_is_not_in_the_queue_any_more(world: Any, clock: Clock) -> None:
    """The manager may have been asked before that."""
    world.hello("w0", 0)
    later(world, clock, 1, QUEUED)
    later(world, clock, 120)
    assert world.job.error is not None


@pytest.mark.parametrize("before", [QUEUED, STARTS])
def test_a_job_that_was_removed_at_its_manager_has_ended(world: Any, clock: Clock, before: JobStatus) -> None:
    later(world, clock, 0, before)
    later(world, clock, 1, GONE)
    later(world, clock, 2, GONE)
    assert (world.job.error, world.job.reason) == (None, "Nomad knows no such job (any more)")
    later(world, clock, 2, GONE)
    assert world.job.state is JobState.FAILED
    assert world.job.error.why == "the resource manager says: Nomad knows no such job (any more)"


def test_one_that_is_not_known_for_a_moment_has_not(world: Any, clock: Clock) -> None:
    for status in (QUEUED, GONE, QUEUED, GONE, QUEUED):
        later(world, clock, 2, status)
    later(world, clock, DAY_S, QUEUED)
    assert (world.job.state, world.job.error) == (JobState.QUEUED, None)


def test_nor_one_that_is_not_known_before_and_after_its_manager_was_away(world: Any, clock: Clock) -> None:
    later(world, clock, 1, GONE)
    world.job.rm_troubled(AWAY)
    later(world, clock, 60, GONE)
    later(world, clock, 2, QUEUED)
    assert (world.job.state, world.job.error) == (JobState.QUEUED, None)


def test_a_next_attempt_of_a_job_that_was_unknown_before_it_ran(world: Any, clock: Clock) -> None:
    later(world, clock, 1, GONE)
    world.join_all()
    world.job.slots[1].heard -= 30
    world.job.tick()
    world.ended("w0", returned=False, failed=True)
    later(world, clock, 50, GONE)
    assert world.job.state is JobState.RESTARTING


AWAY = "the resource manager cannot be asked: Nomad does not answer (refused)"


def test_a_manager_that_cannot_be_asked_is_told_of(world: Any, clock: Clock) -> None:
    later(world, clock, 0, QUEUED)
    world.job.rm_troubled(AWAY)
    assert (world.job.state, world.job.reason) == (JobState.QUEUED, AWAY)
    later(world, clock, DAY_S)
    assert world.job.error is None
    later(world, clock, 1, QUEUED)
    assert world.job.reason == "waits for free nodes (Resources)"
    world.hello("w0", 0)
    world.job.rm_troubled(AWAY)
    assert world.job.reason == f"workers are joining; {AWAY}"
    later(world, clock, 121)
    assert world.job.error.why == f"missing are: 1; {AWAY}"


def test_one_that_cannot_be_asked_while_the_workers_run_matters_to_nobody(world: Any) -> None:
    world.join_all()
    world.job.rm_troubled(AWAY)
    assert (world.job.state, world.job.reason) == (JobState.RUNNING, "")
