"""Programs whose workers wait for each other in steps of different groups end, with all lines."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)

HEAD = """
import time
import numpy as np
from twister2_net import allreduce
from twister2_harp import Harp
"""

TCP, SHM = ("-o", "job.comm=tcp"), ("-o", "job.comm=shm,tcp")
THREADS = ("-o", "rm.standalone.workers_as=threads", "-o", "job.comm=inproc")

PROGRAMS = {
    "a group in another order": """
        def main(env):
            group = env.group([0, 1, 2] if env.worker_id else [2, 1, 0])
            allreduce(env, 1, group=group)
        """,
    "calls in another order": """
        def main(env):
            g, h = Harp(env), Harp(env, env.group([0, 1, 2]))
            a, b = np.ones(4), np.ones(4)
            for one in (h, g) if env.worker_id == 1 else (g, h):
                one.Allreduce(a, b)
        """,
    "a call that one leaves out": """
        def main(env):
            if env.worker_id < 2:
                group = env.group([0, 1])
                if env.worker_id == 0:
                    allreduce(env, env.worker_id, group=group)
            Harp(env).Barrier()
        """,
}


def program_of(jobs: Jobs, body: str) -> Path:
    return jobs.program(HEAD + textwrap.dedent(body))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("how", [TCP, SHM, THREADS], ids=["tcp", "shm", "threads"])
def test_a_deadlock_ends_the_job(jobs: Jobs, name: str, how: tuple[str, ...]) -> None:
    done = jobs.submit(program_of(jobs, PROGRAMS[name]), *how, workers=3)
    assert done.code == 1, done
    assert "J406" in done.err, done
    assert "wait for each other" in done.err, done
    assert "allreduce" in done.err, done
    assert "of the group of workers" in done.err, done
    assert "prog.py:" in done.err, done
    assert done.seconds < 50


def test_two_groups_of_the_same_members_in_another_order(jobs: Jobs) -> None:
    body = """
        def main(env):
            g = Harp(env).split(0)
            h = Harp(env).split(0)
            for one in (h, g) if env.worker_id else (g, h):
                one.Allreduce(np.ones(4), np.ones(4))
        """
    program = program_of(jobs, body)
    done = jobs.submit(program)
    assert done.code == 1, done
    lines = [number for number, line in enumerate(program.read_text().splitlines(), 1) if "split" in line]
    for place, line in enumerate(lines, 1):
        assert f"of group {place} of workers 0, 1, made at {program}:{line}" in done.err, done


def test_workers_that_only_take_long_do_not(jobs: Jobs) -> None:
    """Everything here looks like a deadlock for a while, but for one who computes."""
    body = """
        def main(env):
            me = env.worker_id
            world, pair = Harp(env), None
            if me < 2:
                pair = Harp(env, env.group([0, 1]))
            if me == 0:
                pair.Barrier()
            if me == 1:
                time.sleep(7)
                pair.Barrier()
            a, b, c = np.ones(4), np.ones(4), np.ones(4)
            early = world.Iallreduce(a, b)
            if me == 0:
                early.wait()
            if me < 2:
                pair.Allreduce(a, c)
            early.wait()
            print("sum", b.sum())
        """
    done = jobs.submit(program_of(jobs, body), workers=3)
    assert done.code == 0, done
    assert done.out.splitlines() == ["sum 12.0"] * 3
