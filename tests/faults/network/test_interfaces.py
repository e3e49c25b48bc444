"""An interface of this host goes while a job runs, as the bridge of a container network does: the job goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = [pytest.mark.timeout(120), pytest.mark.faults, pytest.mark.needs_netns]

PROGRAM = """
    import os, pathlib, time
    import numpy
    from twister2_net import allreduce

    def main(env):
        own = env.controller.workers()[env.worker_id].node.addresses
        assert env.args[0] in own, own
        for turn in range(60):
            total = allreduce(env, numpy.full(20_000, env.worker_id + turn))
            assert (total == 1 + 2 * turn).all()
            if turn == 5 and env.worker_id == 0:
                pathlib.Path("running.new").touch()
                os.replace("running.new", "running")
            while turn == 10 and not os.path.exists("gone"):
                time.sleep(0.01)
        if env.worker_id == 0:
            print("right in attempt", env.attempt)
"""
ADDRESS = "10.13.171.1"  # before that of the way outside, by number


@pytest.fixture
def interface() -> Iterator[str]:
    name = f"t2d{os.getpid() % 100_000}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", f"{ADDRESS}/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "del", name], check=False, stderr=subprocess.DEVNULL)


def test_an_address_that_goes_is_not_missed(jobs: Jobs, interface: str) -> None:
    options = ("-q", "-o", "job.comm=tcp", "-o", "comm.tcp.same_host=tcp", "-o", "job.attempts=1")
    client = jobs.start("submit", "standalone", "-n", "2", *options, jobs.program(PROGRAM), ADDRESS)
    jobs.until_file("running")
    subprocess.run(["ip", "link", "del", interface], check=True)
    (jobs.folder / "gone").touch()
    done = client.finish(60)
    assert (done.code, done.out) == (0, "right in attempt 1\n"), done
