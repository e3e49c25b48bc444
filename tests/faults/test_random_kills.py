"""kill -9 anywhere, at any moment: the right answer or one clear error, and nothing is left.

The moments are random within the run of the same job without a kill; ``TWISTER2_SEED`` repeats those of an earlier run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time

import pytest

from twister2_testkit.jobs import Done, Jobs
from twister2_testkit.processes import wait_until
from twister2_testkit.seeds import drawn_seed

pytestmark = [pytest.mark.timeout(240), pytest.mark.faults]

PROGRAM = """
    import time
    from twister2_net import allreduce

    def main(env):
        total, turn = env.state("total", 0), env.state("turn", 0)
        while turn.value < 60:
            total.value += allreduce(env, turn.value + env.worker_id)
            turn.value += 1
            time.sleep(0.01)
            if turn.value % 20 == 0:
                env.commit()
        env.barrier()
        if env.worker_id == 0:
            print("total", total.value)
"""
RIGHT = f"total {sum(3 * turn + 3 for turn in range(60))}\n"
ROLES = ("client", "master", "launcher", "supervisor", "forkserver", "user")
LANDED = 2
"""Kills that must have met a process of the role."""
TRIES = 12
QUICK = ("-o", "job.heartbeat_s=0.25", "-o", "job.lost_after_s=2", "-o", "job.master_lost_s=3")


@pytest.fixture
def luck(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{drawn_seed()} {request.node.name}")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("comm", ["shm", "tcp", pytest.param("mpi", marks=pytest.mark.needs_mpi)])
def test_one_kill(jobs: Jobs, luck: random.Random, role: str, comm: str) -> None:
    words = ("submit", "standalone", "-q", "-n", "3", *QUICK, "-o", f'job.comm=["{comm}"]', jobs.program(PROGRAM))
    undisturbed = jobs.cli(*words)
    assert (undisturbed.code, undisturbed.out) == (0, RIGHT), undisturbed
    landed, tries, lasts = 0, 0, undisturbed.seconds
    while landed < LANDED:
        assert tries < TRIES, f"{landed} of {tries} kills met a {role}"
        tries += 1
        client = jobs.start(*words)
        moment = luck.uniform(0.05, 0.95) * lasts
        begun = time.monotonic()
        victims: list[int] = []
        while client.process.poll() is None and not victims:
            time.sleep(0.005)
            if time.monotonic() - begun > moment:
                victims = jobs.pids(role)
        if victims:
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(luck.choice(victims), signal.SIGKILL)
                landed += 1
        else:
            lasts = 0.8 * (time.monotonic() - begun)  # less than it took when the machine had more to do
        check(jobs, role, client.finish(), f"kill of a {role} after {moment:.3f} s")
    for folder in jobs.folders():
        if (folder / "record.json").exists():
            state = json.loads(jobs.cli("status", folder.name, "--json").out)["state"]
            assert state in ("completed", "failed", "killed"), (folder.name, state)
    assert jobs.cli("clean", "--all").code == 0


def check(jobs: Jobs, role: str, done: Done, what: str) -> None:
    """One job has ended: with the right answer or one error, and without processes."""
    wait_until(lambda: not jobs.processes(), 60, lambda: f"left after the {what}: {jobs.processes()}")
    if done.code == 0:
        # A worker that was killed after it had printed is started again and prints again: at most once an attempt.
        assert done.out in (RIGHT, RIGHT * 2), (what, done)
    else:
        assert "Traceback" not in done.err, (what, done)
        assert done.code == -signal.SIGKILL or done.err.count("[T2-") == 1, (what, done)
    if role in ("supervisor", "forkserver", "user"):
        assert done.code == 0, f"a lost worker was not made good after the {what}\n{done}"
