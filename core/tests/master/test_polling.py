"""How often a job's master asks the resource manager how the job is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from twister2.control.looking import LONGEST_PAUSE_S
from twister2.master.polling import STATE_EVERY_S, Polling, state_every_s
from twister2.spec.rm import JobState


def every_s(state: JobState, **case: Any) -> float:
    case = {"same_host": False, "heard": 100.0, "gone": False, "grows": False, "queued_s": 0.0} | case
    config: Any = SimpleNamespace(heartbeat_s=1.0, manager_poll_s=15.0)
    job: Any = SimpleNamespace(
        state=state,
        slots=[SimpleNamespace(heard=case["heard"], gone=case["gone"])],
        scaling=SimpleNamespace(pending={2: None} if case["grows"] else {}),
        waiting=SimpleNamespace(queued_s=lambda now: case["queued_s"]),
    )
    return state_every_s(job, config, 100.0, same_host=case["same_host"])


def test_a_manager_elsewhere_is_asked_seldom_while_all_workers_beat() -> None:
    assert every_s(JobState.RUNNING) == 15.0
    assert every_s(JobState.RUNNING, heard=10.0, gone=True) == 15.0


@pytest.mark.parametrize("case", [{"same_host": True}, {"heard": 98.0}, {"grows": True}])
def test_one_that_may_know_more_is_asked_every_second(case: dict[str, Any]) -> None:
    assert every_s(JobState.RUNNING, **case) == STATE_EVERY_S


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.STARTING, JobState.RESTARTING])
def test_a_job_that_has_waited_for_room_for_long_asks_less_often(state: JobState) -> None:
    assert every_s(state) == every_s(state, queued_s=40.0) == STATE_EVERY_S
    assert every_s(state, queued_s=75.0) == 1.5
    assert every_s(state, queued_s=86_400.0) == LONGEST_PAUSE_S
    assert every_s(state, queued_s=86_400.0, same_host=True) == STATE_EVERY_S


def test_a_look_begins_when_the_one_before_is_over() -> None:
    config: Any = SimpleNamespace(heartbeat_s=1.0, manager_poll_s=15.0)
    job: Any = SimpleNamespace(state=JobState.RUNNING, slots=[], scaling=SimpleNamespace(pending={}))
    polling = Polling(config, same_host=False)
    assert polling.due(job, 100.0) == 100.0
    assert not polling.due(job, 200.0), "two looks wait for one answer"
    polling.answered()
    assert polling.due(job, 200.0) == 200.0
    polling.soon()
    assert not polling.due(job, 201.0)
    polling.answered()
    assert polling.due(job, 201.0) == 201.0
    polling.answered()
    assert not polling.due(job, 210.0)
    polling.soon()
    assert polling.due(job, 210.0) == 210.0
