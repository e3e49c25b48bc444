"""kill -9 of a worker in every phase of its network: the others notice, and the next attempt gives the right answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = [pytest.mark.timeout(120), pytest.mark.faults]

PROGRAM = """
    import os, random, signal, threading, time
    import numpy
    from twister2_net import allreduce, keyed_reduce

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def main(env):
        phase = env.args[0]
        doomed = env.attempt == 1 and env.worker_id == 1
        luck = random.Random(phase)
        if doomed and phase == "before":
            die()
        if doomed and phase == "forming":
            threading.Timer(luck.uniform(0.0, 0.01), die).start()
        ones = numpy.ones(4_000_000)
        if doomed and phase == "sending":
            threading.Timer(luck.uniform(0.005, 0.05), die).start()
        for _ in range(5 if phase != "sending" else 20):
            total = allreduce(env, ones)
            assert (total == env.n_workers).all()
        if doomed and phase == "between":
            die()
        pairs = [(number % 1000, 1) for number in range(200_000)]
        if doomed and phase == "shuffle":
            threading.Timer(luck.uniform(0.01, 0.1), die).start()
        for _ in range(3):
            counts = dict(keyed_reduce(env, pairs, "sum"))
            assert set(counts.values()) <= {200 * env.n_workers}, counts
        if doomed and phase == "asleep":
            threading.Timer(0.3, die).start()
        if doomed:
            time.sleep(0.6)
        assert allreduce(env, len(counts)) == 1000
        if doomed and phase == "leaving":
            die()
        if env.worker_id == 0:
            print("right in attempt", env.attempt)
"""
PHASES = ("before", "forming", "sending", "between", "shuffle", "asleep", "leaving")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path, left_s=20.0) as jobs:
        yield jobs


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_is_killed(jobs: Jobs, phase: str, kind: str) -> None:
    options = ("-q", "-o", "job.comm=tcp", "-o", f"comm.tcp.same_host={kind}", "-o", "job.heartbeat_s=0.25")
    done = jobs.submit(jobs.program(PROGRAM), *options, workers=3, args=[phase])
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == "right in attempt 2", done
    assert done.seconds < 40, done
