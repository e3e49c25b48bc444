"""kill -9 anywhere, at any moment: the right answer or one clear error, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = [pytest.mark.timeout(120), pytest.mark.faults]

PROGRAM = """
    from twister2_net import allreduce

    def main(env):
        total, turn = env.state("total", 0), env.state("turn", 0)
        while turn.value < 60:
            total.value += allreduce(env, turn.value + env.worker_id)
            turn.value += 1
            if turn.value % 20 == 0:
                env.commit()
        env.barrier()
        if env.worker_id == 0:
            print("total", total.value)
"""
RIGHT = f"total {sum(3 * turn + 3 for turn in range(60))}\n"
ROLES = ("client", "master", "launcher", "supervisor", "forkserver", "user")


@pytest.mark.parametrize("role", ROLES)
def test_one_kill(jobs: Jobs, role: str) -> None:
    luck = random.Random(f"one kill, {role}")
    program = jobs.program(PROGRAM)
    quick = ("-o", "job.heartbeat_s=0.25", "-o", "job.lost_after_s=2", "-o", "job.master_lost_s=3")
    for _ in range(3):
        client = jobs.start("submit", "standalone", "-q", "-n", "3", *quick, program)
        moment = luck.uniform(0.05, 0.9)
        begun = time.monotonic()
        victims: list[int] = []
        while client.process.poll() is None and not victims:
            time.sleep(0.01)
            if time.monotonic() - begun > moment:
                victims = jobs.pids(role)
        if victims:
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(luck.choice(victims), signal.SIGKILL)
        done = client.finish(40)
        until = time.monotonic() + 20
        while jobs.processes():
            assert time.monotonic() < until, f"left after the kill of a {role}: {jobs.processes()}"
            time.sleep(0.05)
        if done.code == 0:
            # A worker that was killed after it had printed is started again and prints again: at most once an attempt.
            assert done.out in (RIGHT, RIGHT * 2), done
        else:
            assert "Traceback" not in done.err, done
            assert done.code == -signal.SIGKILL or done.err.count("[T2-") == 1, done
        if role in ("supervisor", "forkserver", "user"):
            assert done.code == 0, f"a lost worker was not made good\n{done}"
    for folder in jobs.folders():
        if (folder / "record.json").exists():
            state = json.loads(jobs.cli("status", folder.name, "--json").out)["state"]
            assert state in ("completed", "failed", "killed"), (folder.name, state)
    assert jobs.cli("clean", "--all").code == 0
