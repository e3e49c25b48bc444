"""The state machine of a job that changes its size: who stands by, when the attempt ends, and what leaves it alone."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twister2.spec.errors import ResourceError, UserCodeError
from twister2.spec.rm import JobState, JobStatus

SPEC = importlib.util.spec_from_file_location("kit_test_job", Path(__file__).with_name("test_job.py"))
assert SPEC is not None
assert SPEC.loader is not None
TEST_JOB = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TEST_JOB)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Any]:
    """Two workers that run and have committed, and a client."""
    world = TEST_JOB.World(tmp_path)
    world.join_all()
    world.say("client", "attach", client_key="client")
    world.say("w0", "committed", attempt=1, checkpoint=1)
    yield world
    world.calls.close()
    world.journal.close()


def scale(world: Any, count: int, *, now: bool = False, deadline_s: float = 60.0) -> dict[str, Any]:
    heard = world.say("client", "scale", targets={"": count}, now=now, deadline_s=deadline_s)
    (answer,) = [body for kind, body in heard if kind == "changing"]
    return answer


def change(world: Any) -> dict[str, Any]:
    (status,) = [body for kind, body in world.say("client", "status") if kind == "status"]
    return status["change"]


def end_all(world: Any, attempt: int = 1) -> None:
    for slot in [*world.job.slots]:
        world.ended(slot.peer.decode(), returned=False, failed=True, attempt=attempt)


def test_new_workers_stand_by_until_the_next_commit(world: Any) -> None:
    assert scale(world, 4) == {"error": None, "number": 1, "n_workers": 4}
    assert [(n, group.count) for n, group in world.resized] == [(4, 2)]
    assert change(world)["waits_for"] == "new workers in slots 2, 3"
    world.job.rm_status(JobStatus(JobState.RUNNING, pending="waits for free nodes (Resources)"))
    assert "waits for free nodes (Resources)" in change(world)["waits_for"]
    ((kind, body),) = world.hello("w2", 2)
    assert (kind, body["standby"]) == ("welcome", True)
    world.say("w0", "committed", attempt=1, checkpoint=2)
    assert not world.heard("abort"), "the attempt ended before all were there"
    world.hello("w3", 3)
    assert [kind for kind, _ in world.say("w3", "beat", attempt=1, steps=[], waits_for="", memory=0)] == ["ack"]
    assert change(world)["waits_for"] == "the program's next commit"
    world.say("w0", "committed", attempt=1, checkpoint=3)
    assert world.heard("abort") == ["w0", "w1"]
    end_all(world)
    assert (world.job.state, world.job.attempt, len(world.job.slots)) == (JobState.RUNNING, 2, 4)
    assert world.heard("next") == ["w0", "w1", "w2", "w3"]
    assert not world.started, "copies that live were started again"
    assert world.events("attempt_started")[-1]["checkpoint"] == 3


def test_fewer_at_once_and_those_that_leave_are_told(world: Any) -> None:
    assert scale(world, 1, now=True)["error"] is None
    assert world.heard("abort") == ["w0", "w1"]
    end_all(world)
    assert world.heard("next") == ["w0"]
    assert world.heard("end") == ["w1"]
    assert world.resized == [(1, None)]
    assert world.say("w1", "beat", attempt=1, steps=[], waits_for="", memory=0)[0][0] == "refused"


def test_a_manager_that_refuses_leaves_the_attempt_alone(world: Any) -> None:
    told: list[Any] = []
    world.resize = lambda n, group, refused: told.append(refused)
    scale(world, 3)
    told[0](ResourceError("no quota", why="team-a has 2", remedy="ask for more"))
    after = change(world)
    assert (after["over"], after["error"]["what"]) == (True, "no quota")
    assert not world.heard("abort")
    assert scale(world, 3)["error"] is None, "it cannot be tried again"


def test_a_refusal_that_comes_late_is_not_that_of_the_next_change(world: Any) -> None:
    told: list[Any] = []
    world.resize = lambda n, group, refused: told.append(refused)
    scale(world, 3, deadline_s=0.001)
    time.sleep(0.01)
    world.job.tick()
    assert "was not scaled within" in change(world)["error"]["what"]
    scale(world, 4)
    told[0](ResourceError("no quota", why="team-a has 2", remedy="ask for more"))
    after = change(world)
    assert (after["number"], after["over"], after["error"]) == (2, False, None)


@pytest.mark.parametrize("text", ["exited 1", "failed: no such image", "ended: by its host", "lost with its node n3"])
def test_a_new_worker_that_will_never_run_is_the_end_of_the_change(world: Any, text: str) -> None:
    scale(world, 3)
    world.job.rm_status(JobStatus(JobState.RUNNING, slots={2: "running"}))
    assert not change(world)["over"]
    world.job.rm_status(JobStatus(JobState.RUNNING, slots={2: text}))
    after = change(world)
    assert after["over"]
    assert text in after["error"]["why"]
    assert not world.heard("abort")


def test_a_change_at_once_leaves_an_attempt_alone_that_has_not_begun(world: Any) -> None:
    scale(world, 3, now=True)
    world.say("w1", "bye", why="its node went down")
    world.hello("w2", 2)
    world.ended("w0", returned=False, failed=True)
    assert (world.job.attempt, world.started) == (2, [(2, [1])])
    world.job.rm_status(JobStatus(JobState.RUNNING))
    world.job.tick()
    assert not world.job.aborting, "the attempt was ended before it began"
    world.hello("w1b", 1, key=world.job.join_key, attempt=2)
    assert world.job.state is JobState.RUNNING
    world.job.tick()
    assert world.job.aborting
    end_all(world, attempt=2)
    assert (world.job.attempt, len(world.job.slots), world.job.state) == (3, 3, JobState.RUNNING)


def test_a_deadline_says_what_was_waited_for(world: Any) -> None:
    scale(world, 3, deadline_s=0.001)
    time.sleep(0.01)
    world.job.tick()
    error = change(world)["error"]
    assert "was not scaled within 0.001 s" in error["what"]
    assert "new worker in slot 2" in error["why"]
    assert world.job.state is JobState.RUNNING
    world.hello("w2", 2)
    assert world.posted[-1][1:] == ("refused", {"text": "there is no slot 2; the job has 2", "wait": False})


def test_a_worker_that_is_lost_meanwhile_begins_the_next_attempt_with_the_old_size(world: Any) -> None:
    scale(world, 3)
    world.hello("w2", 2)
    world.say("w1", "bye", why="its node went down")
    world.ended("w0", returned=False, failed=True)
    assert (world.job.attempt, world.started) == (2, [(2, [1])])
    assert len(world.job.slots) == 2
    world.hello("w1b", 1, key=world.job.join_key, attempt=2)
    assert world.job.state is JobState.RUNNING
    world.say("w0", "committed", attempt=2, checkpoint=2)
    end_all(world, attempt=2)
    assert (world.job.attempt, len(world.job.slots), world.job.state) == (3, 3, JobState.RUNNING)


def test_an_error_of_the_program_is_the_end_though_it_is_scaled(world: Any) -> None:
    scale(world, 3)
    world.hello("w2", 2)
    world.say("w1", "failed", attempt=1, error=UserCodeError("bug", why="", remedy="").to_dict())
    world.say("w0", "committed", attempt=1, checkpoint=2)
    end_all(world)
    assert world.job.state is JobState.FAILED
    assert world.job.error.what == "bug"
    assert "w2" in world.heard("end")
    world.say("w2", "bye")
    assert change(world)["error"] is None, "its end is taken for the reason"
    assert world.resized[1:] == [(2, None)], "the slot that nobody needs any more is not given back"


def test_a_slip_of_the_keyboard_does_not_cost_the_master_its_memory(world: Any) -> None:
    error = scale(world, 10**9)["error"]
    assert error["what"] == "a group cannot have 1,000,000,000 workers"
    assert not world.resized
    assert not world.job.scaling.pending


def test_one_change_at_a_time(world: Any) -> None:
    scale(world, 3)
    again = scale(world, 4)["error"]
    assert "cannot be scaled now" in again["what"]
    assert "waits for new worker in slot 2" in again["why"]
