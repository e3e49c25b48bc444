"""How long workers wait in a collective call that cannot end, with the settings that users have: each tells it."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)

HANG_S = 30.0
"""Far above the 5 s after which a silent supervisor is lost, and above what a busy machine adds to it."""

PROGRAM = """
import os, signal, time
from pathlib import Path
import numpy as np
import twister2_net as net

def odd(env):
    {odd}

def main(env):
    net.allreduce(env, np.ones(4))
    began = Path(env.args[0])
    if env.worker_id == 1:
        time.sleep(0.3)  # the others wait by then
        began.with_suffix(".new").write_text(str(time.monotonic()))
        began.with_suffix(".new").rename(began)
        return odd(env)
    try:
        net.allreduce(env, np.ones(4))
    except Exception as error:
        print(env.worker_id, time.monotonic() - float(began.read_text()), type(error).__name__)
        raise
"""
ODD = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "mismatch": "net.allreduce(env, np.ones(5))",
    "early return": "return",
    "raised": "raise ValueError('mine')",
}


@pytest.mark.parametrize("transport", ["shm", "tcp", pytest.param("mpi", marks=pytest.mark.needs_mpi)])
@pytest.mark.parametrize("name", ODD)
def test_each_worker_fails_within_the_heartbeat_time(jobs: Jobs, name: str, transport: str) -> None:
    program = jobs.program(PROGRAM.format(odd=ODD[name]))
    options = ("-o", "job.attempts=1", "-o", f"job.comm={transport}", "-o", "comm.tcp.same_host=tcp")
    slow = ("-o", "job.kill_grace_s=60")  # a worker that a busy machine holds up is not killed before it has told
    done = jobs.submit(program, *options, *slow, workers=3, args=[str(jobs.folder / "began")])
    assert done.code != 0, done
    told = {int(line.split()[0]): line.split()[1:] for line in done.out.splitlines()}
    assert sorted(told) == [0, 2], done
    for seconds, kind in told.values():
        assert kind in ("StepAbortedError", "StepMismatchError"), done
        assert float(seconds) < HANG_S, done
