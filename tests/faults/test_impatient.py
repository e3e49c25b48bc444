"""Ctrl-C again and again: the client is not gone before what it owns."""

from __future__ import annotations

import signal
import time

import pytest

from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import wait_until

pytestmark = pytest.mark.faults

DEAF = """
    import pathlib, time

    def main(env):
        pathlib.Path(f"up-{env.worker_id}").touch()
        while True:
            try:
                time.sleep(600)
            except BaseException:
                pass
"""


@pytest.mark.parametrize(("times", "gap_s"), [(3, 0.05), (5, 0.02), (40, 0.001)])
def test_while_it_runs(jobs: Jobs, times: int, gap_s: float) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", "-o", "job.kill_grace_s=60", jobs.program(DEAF))
    jobs.until_file("up-0")
    jobs.until_file("up-1")
    for _ in range(times):
        client.signal(signal.SIGINT)
        time.sleep(gap_s)
    done = client.finish(30)
    assert not jobs.processes(), jobs.picture()
    assert not list(jobs.temporary.glob("twister2-*/*"))
    assert done.code == 130, done
    assert "Traceback" not in done.err
    assert [event["state"] for event in jobs.events("job_ended")] == ["killed"]


# An interpreter that is interrupted while it sets itself up ends as it likes, long before there is anything of ours.
COMMAND = """
import pathlib, sys
pathlib.Path("begun").touch()
from twister2.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize("delay_s", [0.05, 0.15, 0.25, 0.4])
def test_while_it_starts(jobs: Jobs, delay_s: float) -> None:
    words = ("submit", "standalone", "-n", "2", "-o", "job.kill_grace_s=60", jobs.program(DEAF))
    client = jobs.start_python("-c", COMMAND, *words)
    jobs.until_file("begun")
    time.sleep(delay_s)
    for _ in range(5):
        client.signal(signal.SIGINT)
        time.sleep(0.02)
    done = client.finish(30)
    # one that it has started and not yet noted ends by itself, as soon as the client's end of its pipe is closed
    wait_until(lambda: not jobs.processes(), 30, jobs.picture)
    assert not list(jobs.temporary.glob("twister2-*/*"))
    assert done.code in (130, -signal.SIGINT), done
