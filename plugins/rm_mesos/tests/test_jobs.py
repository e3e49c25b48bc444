"""Whole jobs on a real Mesos: client, scheduler, workers, faults; and what Mesos itself still lists."""

from __future__ import annotations

import json
import os
import signal

import pytest

from twister2.spec.rm import JobState, RmContext
from twister2_rm_mesos.config import MesosConfig
from twister2_rm_mesos.plugin import MesosPlugin

pytestmark = [pytest.mark.needs_mesos, pytest.mark.timeout(240)]
SCHEDULER = b"twister2_rm_mesos.scheduler"


def test_hello(twister2, mesos):
    code, out, err = twister2.run("submit", "mesos", "-n", 3, "program.py")
    assert code == 0, err
    assert sorted(out.splitlines()) == [f"hello from {worker} of 3" for worker in range(3)]
    mesos.nothing_left_of(twister2.job())
    assert not (twister2.state / "rm-mesos").exists()


def test_a_workers_error_is_the_jobs(twister2, mesos):
    code, _, err = twister2.run("submit", "mesos", "-n", 2, "program.py:fails")
    assert code != 0
    assert "bad luck" in err
    mesos.nothing_left_of(twister2.job())


def test_a_lost_worker_is_replaced(twister2, mesos):
    running, job_id, reports = twister2.waiting(program="waits_once")
    os.kill(mesos.above(int((reports / "1-1").read_text()), 2)[-1], signal.SIGKILL)
    code, out, err = twister2.finish(running)
    assert code == 0, err
    assert out.count("attempt 2 done") == 2
    mesos.nothing_left_of(job_id)


def test_killed_from_another_shell_when_the_client_is_gone(twister2, mesos):
    code, out, err = twister2.run("submit", "mesos", "--detach", "-n", 2, "program.py:sleeps")
    assert code == 0, err
    job_id = out.strip()
    twister2.until(lambda: twister2.run("logs", job_id)[1].count("asleep") == 2)
    code, _, err = twister2.run("kill", job_id)
    assert code == 0, err
    assert "killed" in twister2.run("status", job_id)[1].lower()
    mesos.nothing_left_of(job_id)
    assert twister2.run("kill", job_id)[0] == 0, "killing an ended job is a success"
    code, _, err = twister2.run("kill", "nobody-knows-it")
    assert code != 0
    assert "nobody-knows-it" in err


def test_a_scheduler_that_dies_is_followed_by_another_which_takes_the_framework_over(twister2, mesos):
    running, job_id, reports = twister2.waiting()
    kept = twister2.state / "rm-mesos" / job_id / "scheduler.json"
    framework = json.loads(kept.read_bytes())["framework"]
    (old,) = mesos.processes(job_id, SCHEDULER)
    os.kill(old, signal.SIGKILL)
    twister2.run("status", job_id)
    twister2.until(lambda: [pid for pid in mesos.processes(job_id, SCHEDULER) if pid != old])
    assert json.loads(kept.read_bytes())["framework"] == framework
    (reports / "go").touch()
    code, out, err = twister2.finish(running)
    assert code == 0, err
    assert out.count("went on") == 2
    mesos.nothing_left_of(job_id)


def test_a_master_that_dies_is_the_end_of_the_job(twister2, mesos):
    running, job_id, _ = twister2.waiting()
    record = json.loads((twister2.state / "jobs" / job_id / "record.json").read_bytes())
    os.kill(record["master_process"][1], signal.SIGKILL)
    code, _, err = twister2.finish(running)
    assert code != 0
    assert "the job master" in err, err
    twister2.until(lambda: not mesos.left_of(job_id))


def test_a_kill_on_another_host_tears_the_framework_down(twister2, mesos, tmp_path):
    """Where nothing is known of the job but what Mesos knows."""
    running, job_id, _ = twister2.waiting()
    there = MesosPlugin().rm_create(
        MesosConfig(masters=(os.environ["TWISTER2_MESOS_MASTER"],)), RmContext(str(tmp_path / "other"))
    )
    handle = there.find(job_id)
    assert handle is not None
    assert there.state(handle).state is JobState.RUNNING
    there.kill(handle, 0.5)
    code, _, err = twister2.finish(running)
    assert code != 0
    assert "torn down" in err or "killed" in err.lower(), err
    twister2.until(lambda: not mesos.left_of(job_id))
    assert there.find(job_id) is None


def test_the_walltime(twister2, mesos):
    code, _, err = twister2.run("submit", "mesos", "-n", 1, "-o", "job.walltime_s=2", "program.py:sleeps")
    assert code == 5, err
    assert "reached its time limit of 2 s" in err
    mesos.nothing_left_of(twister2.job())


def test_agents_without_the_containerizer_are_named(twister2, mesos):
    options = ("-o", "rm.mesos.container=docker", "-o", "rm.mesos.image=twister2/nothing:1")
    code, _, err = twister2.run("submit", "mesos", "-n", 1, *options, "program.py")
    assert code != 0
    assert "container" in err, err
    mesos.nothing_left_of(twister2.job())


def test_scaled_up_and_down_from_another_shell(twister2, mesos, tmp_path):
    enough = tmp_path / "enough"
    state = f"state.file.path={tmp_path / 'shared'}"
    patient = ("-o", "job.lost_after_s=60")  # nobody is taken for lost because the machine is busy
    running = twister2("submit", "mesos", "-n", 2, "-o", state, *patient, "program.py:counts", enough)
    assert "attempt 1 of 2" in running.stdout.readline()
    job_id = twister2.job()
    for size in (3, 1):
        code, out, err = twister2.run("scale", job_id, size)
        assert code == 0, (out, err)
        assert f"has {size} workers" in out
    twister2.until(lambda: len(mesos.processes(job_id, b"twister2_rm_mesos.copy")) == 1)
    twister2.until(lambda: "attempt 3 of 1" in twister2.run("logs", job_id)[1])
    code, _, err = twister2.run("scale", job_id, 49)
    assert code != 0
    assert "49 copies ask for 49 CPUs" in err
    code, out, err = twister2.run("restart", job_id)
    assert code == 0, (out, err)
    assert "begins again from commit" in out
    enough.touch()
    code, out, err = twister2.finish(running)
    assert code == 0, err
    assert "attempt 2 of 3 True" in out
    assert "attempt 3 of 1 True" in out
    assert "attempt 4 of 1 True" in out
    mesos.nothing_left_of(job_id)


def test_workers_that_differ(twister2, mesos):
    groups = ("-o", "job.groups.big={count=1,memory_mb=300}", "-o", "job.groups.thin={count=2,memory_mb=200}")
    running = twister2("submit", "mesos", *groups, "program.py:groups")
    told = sorted(running.stdout.readline() for _ in range(3))
    words = ("worker 0 is big with 300\n", "worker 1 is thin with 200\n", "worker 2 is thin with 200\n")
    assert told == [*words], running.stderr.read()
    job_id = twister2.job()
    tasks = mesos.operate("GET_TASKS")["get_tasks"]["tasks"]
    sizes = {
        label["value"]: each["scalar"]["value"]
        for task in tasks
        if task["task_id"]["value"].startswith(job_id)
        for label in task["labels"]["labels"]
        for each in task["resources"]
        if each["name"] == "mem"
    }
    assert sizes == {"0": 300, "1": 200, "2": 200}
    code, _, err = twister2.run("kill", job_id)
    assert code == 0, err
    assert twister2.finish(running)[0] != 0
    mesos.nothing_left_of(job_id)


def test_two_jobs_at_once(twister2, mesos):
    running = [twister2("submit", "mesos", "-n", 2, "--name", "größe 数据 " * 30, "program.py") for _ in range(2)]
    assert [twister2.finish(each)[0] for each in running] == [0, 0]
    assert [mesos.left_of(job_id) for job_id in twister2.jobs()] == [[], []]


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ('rm.mesos.masters=["http://127.0.0.1:9"]', "Mesos does not answer"),
        ("job.memory_mb=10000000", "a copy asks for 10,000,000 MiB of memory"),
        ("job.workers=500", "500 copies ask for 500 CPUs"),
        ('rm.mesos.constraints=["rack = r9"]', "none of the 3 agents of Mesos is as asked for"),
        ("rm.mesos.container=docker", "needs an image"),
        ("rm.mesos.role=..", "'FrameworkInfo.roles' contains invalid role"),
    ],
)
def test_what_can_never_run_is_refused(twister2, option, what):
    code, _, err = twister2.run("submit", "mesos", "-o", option, "program.py")
    assert code != 0
    assert what in err
    assert not list(twister2.state.glob("rm-mesos/*"))


def test_a_dry_run_shows_the_framework_and_no_secret(twister2):
    code, out, err = twister2.run("submit", "mesos", "-n", 2, "--dry-run", "program.py")
    assert code == 0, err
    shown = json.loads(out)
    assert len(shown["ACCEPT"]["operations"][0]["launch"]["task_infos"]) == 2
    assert "join_key" not in out
