"""A Mesos that is away, agents that die: on a Mesos of these tests' own."""

from __future__ import annotations

import json
import time

import pytest

pytestmark = [pytest.mark.needs_mesos, pytest.mark.faults, pytest.mark.timeout(300)]


def test_a_job_goes_on_and_can_be_ended_while_the_server_is_away(own_mesos, twister2, mesos):
    own_mesos("start", "1")
    running, job_id, reports = twister2.waiting()
    own_mesos("pause")
    time.sleep(3)  # several of its turns
    assert running.poll() is None, "the job ended with the server"
    assert twister2.run("status", job_id)[0] == 0
    (reports / "go").touch()
    assert [running.stdout.readline() for _ in range(2)] == ["went on\n"] * 2
    own_mesos("resume")
    code, _, err = twister2.finish(running)
    assert code == 0, err
    twister2.until(lambda: not mesos.left_of(job_id))


def test_a_kill_while_the_server_is_away_ends_the_workers_and_the_framework_when_it_is_back(own_mesos, twister2, mesos):
    own_mesos("start", "1")
    running, job_id, _ = twister2.waiting()
    assert mesos.processes(job_id, b"twister2.worker")
    own_mesos("pause")
    killing = twister2("kill", job_id)
    twister2.until(lambda: not mesos.processes(job_id, b"twister2.worker"))
    own_mesos("resume")
    code, _, err = twister2.finish(killing)
    assert code == 0, err
    assert twister2.finish(running)[0] != 0
    twister2.until(lambda: not mesos.left_of(job_id))


def test_workers_of_an_agent_that_is_gone_move_to_another(own_mesos, twister2, mesos):
    own_mesos("start", "2")
    running, job_id, reports = twister2.waiting()
    slots = json.loads((twister2.state / "rm-mesos" / job_id / "scheduler.json").read_bytes())["slots"]
    mesos.operate("MARK_AGENT_GONE", mark_agent_gone={"agent_id": {"value": slots[1]["agent"]}})
    twister2.until(lambda: len(list(reports.glob("[2-9]-*"))) >= 2 or running.poll() is not None, 120)
    assert running.poll() is None, twister2.finish(running)
    (reports / "go").touch()
    code, out, err = twister2.finish(running)
    assert code == 0, err
    assert out.count("went on") == 2
    twister2.until(lambda: not mesos.left_of(job_id))


def test_a_next_attempt_that_finds_no_agent_waits_for_one_longer_than_a_start_may_take(own_mesos, twister2, mesos):
    own_mesos("start", "3")
    large = ("-o", "job.memory_mb=9000")  # so that an agent has room for one
    running, job_id, reports = twister2.waiting(*large, "-o", "job.start_deadline_s=20")
    other = twister2("submit", "mesos", "-n", 1, *large, "program.py:sleeps")
    assert other.stdout.readline() == "asleep\n", twister2.finish(other)
    slots = json.loads((twister2.state / "rm-mesos" / job_id / "scheduler.json").read_bytes())["slots"]
    mesos.operate("MARK_AGENT_GONE", mark_agent_gone={"agent_id": {"value": slots[1]["agent"]}})
    reason = "1 of 2 workers wait for an agent: a copy asks for 9000 MiB of memory"

    def told():
        return reason in " ".join(twister2.run("status", job_id)[1].split()) or running.poll() is not None

    twister2.until(told)
    time.sleep(22)
    assert running.poll() is None, twister2.finish(running)
    (reports / "go").touch()
    (other_id,) = {*twister2.jobs()} - {job_id}
    assert twister2.run("kill", other_id)[0] == 0
    code, out, err = twister2.finish(running)
    assert code == 0, err
    assert out.count("went on") == 2
    twister2.until(lambda: not mesos.left_of(job_id))


def test_the_reason_of_an_agents_death_is_told(own_mesos, twister2, mesos):
    own_mesos("start", "2")
    running, job_id, _ = twister2.waiting("-o", "job.attempts=1")
    slots = json.loads((twister2.state / "rm-mesos" / job_id / "scheduler.json").read_bytes())["slots"]
    mesos.operate("MARK_AGENT_GONE", mark_agent_gone={"agent_id": {"value": slots[1]["agent"]}})
    code, _, err = twister2.finish(running)
    assert code != 0
    assert "worker 1 was lost" in err, err
    assert "agent" in err, err
    twister2.until(lambda: not mesos.left_of(job_id))
