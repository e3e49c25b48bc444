"""More and fewer workers for a job on hosts, and what others may do to it."""

from __future__ import annotations

import re
import sys

import pytest

from twister2_testkit.managed import ManagedJobs

pytestmark = [pytest.mark.needs_hosts, pytest.mark.timeout(300)]


@pytest.fixture
def twister2(tmp_path):
    with ManagedJobs(tmp_path, "standalone") as jobs:
        yield jobs


def test_scaling_as_far_as_the_hosts_have_room(rig, twister2, tmp_path):
    enough = tmp_path / "enough"
    settings = [*rig.settings("h1:1", "h2:1", "h3:2"), "-o", 'rm.standalone.shared_files=["state"]']
    running = twister2("submit", "standalone", *settings, "-n", 2, "program.py:counts", enough)
    twister2.until(twister2.jobs)
    job = twister2.job()

    def printed(text):
        return twister2.until(lambda: text in twister2.run("logs", job)[1] or running.poll() is not None)

    printed("attempt 1 of 2 False")
    code, _, err = twister2.run("scale", job, 5)
    assert code != 0
    assert "5 workers do not fit the hosts" in err
    assert "h1:1, h2:1, h3:2" in err
    code, _, err = twister2.run("scale", job, 4)
    assert code == 0, err
    printed("attempt 2 of 4 True")
    status = twister2.run("status", job)[1]
    assert sorted(re.findall(r"^\d +(h\d)", status, re.MULTILINE)) == ["h1", "h2", "h3", "h3"], status
    code, _, err = twister2.run("scale", job, 1)
    assert code == 0, err
    printed("attempt 3 of 1 True")
    # the master's agents stay there; workers are forks of the launcher
    twister2.until(lambda: not [line for host in ("h2", "h3") for line in rig.processes(host) if "launcher" in line])
    code, out, err = twister2.run("restart", job)
    assert code == 0, (out, err)
    assert "begins again from commit" in out
    enough.touch()
    code, out, err = twister2.finish(running)
    assert code == 0, err
    assert "attempt 3 of 1 True" in out
    assert "attempt 4 of 1 True" in out
    rig.until_nothing_is_left()


GROUPS = """
import os

def main(env):
    me = env.controller.workers()[env.worker_id]
    print("worker", env.worker_id, "on", os.uname().nodename, "is", me.group, "with", me.memory_mb, flush=True)
    env.barrier("all")
"""


def test_workers_that_differ(rig, twister2, tmp_path):
    (tmp_path / "groups.py").write_text(GROUPS)
    groups = ("-o", "job.groups.big={count=1,memory_mb=300}", "-o", "job.groups.thin={count=2,memory_mb=200}")
    code, out, err = twister2.run("submit", "standalone", *rig.settings("h1:1", "h2:2"), *groups, "groups.py")
    assert code == 0, err
    assert sorted(out.splitlines()) == [
        "worker 0 on h1 is big with 300",
        "worker 1 on h2 is thin with 200",
        "worker 2 on h2 is thin with 200",
    ]
    rig.until_nothing_is_left()


def test_others_cannot_join_nor_kill_it_and_its_like_runs_beside_it(rig, twister2, tmp_path):
    name = "größe 数据 " * 30
    submit = ("submit", "standalone", *rig.settings(), "--detach", "--name", name, "-n", 3, "program.py:sleeps")
    jobs = []
    for _ in range(2):
        code, out, err = twister2.run(*submit)
        assert code == 0, err
        jobs.append(out.strip())
    assert len({*jobs}) == 2
    for job in jobs:
        twister2.until(lambda job=job: twister2.run("logs", job)[1].count("asleep") == 3)
    ticket = rig.home / "h1" / "state" / "twister2" / "hosts" / "h1" / "rm-standalone" / jobs[0] / "ticket"
    (rig.home / "stolen").write_bytes(ticket.read_bytes())
    environment = ("env", f"TWISTER2_TICKET={rig.home}/stolen", "TWISTER2_SLOT=0")
    said = rig.do("run", "h3", *environment, "sh", "-c", f"{sys.executable} -m twister2.worker 2>&1")
    assert "slot 0 is already filled" in said
    code, _, err = twister2.run("kill", jobs[0], TWISTER2__JOB__STATE_DIR=str(tmp_path / "somebody else's"))
    assert code != 0
    assert jobs[0] in err
    for job in jobs:
        assert "running" in twister2.run("status", job)[1].lower()
    for _ in range(2):  # the second one finds it ended
        code, out, err = twister2.run("kill", jobs[0])
        assert (code, "killed" in (out + err).lower()) == (0, True), (out, err)
    assert "running" in twister2.run("status", jobs[1])[1].lower()
    assert twister2.run("kill", jobs[1])[0] == 0
    rig.until_nothing_is_left()
