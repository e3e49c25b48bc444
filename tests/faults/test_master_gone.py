"""The master of a detached job is killed: whoever asks hears what happened and what to do."""

from __future__ import annotations

import os
import signal

import pytest

from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import ended, wait_until

pytestmark = pytest.mark.faults

PROGRAM = """
    import pathlib, time

    def main(env):
        print("up", flush=True)
        env.barrier()
        pathlib.Path(f"up-{env.worker_id}").touch()
        time.sleep(600)
"""


def test_status_logs_and_wait(jobs: Jobs) -> None:
    lost = ("-o", "job.heartbeat_s=0.25", "-o", "job.master_lost_s=4")
    done = jobs.start("submit", "standalone", "-n", "2", "--detach", *lost, jobs.program(PROGRAM)).finish()
    assert done.code == 0, done
    jobs.until_file("up-0")
    jobs.until_file("up-1")
    (master,) = jobs.pids("master")
    os.kill(master, signal.SIGKILL)
    wait_until(lambda: ended(master), 30, jobs.picture)
    gone = f"its job master (process {master}) has gone: it was killed, or crashed"
    status = jobs.cli("status", "last")
    assert gone in status.out, status
    assert "within 4 s" in status.out or "submit the job again" in status.out, status
    assert gone in jobs.cli("logs", "last").err

    waited = jobs.cli("wait", "last")
    assert waited.code == 1, waited
    assert "failed: the job master ended before the job did" in waited.out
    for told in (waited.err, jobs.cli("status", "last").out, jobs.cli("logs", "last").err):
        assert "[T2-J404] the job master ended before the job did" in told
        assert gone in told
        assert "submit the job again" in told
    assert "up" in jobs.cli("logs", "last").out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_master_that_is_told_to_end_ends_the_job_in_order(jobs: Jobs, number: signal.Signals) -> None:
    """As a manager does whose time limit is over, or that makes way for another job."""
    program = jobs.program(
        """
        import pathlib, time
        def main(env):
            try:
                pathlib.Path(f"up-{env.worker_id}").touch()
                while True:
                    time.sleep(0.05)
            finally:
                pathlib.Path(f"tidied-{env.worker_id}").touch()
        """
    )
    client = jobs.start("submit", "standalone", "-q", "-n", "2", "-o", "job.kill_grace_s=60", program)
    jobs.until_file("up-0")
    jobs.until_file("up-1")
    (master,) = jobs.pids("master")
    os.kill(master, number)
    done = client.finish()
    assert done.code == 5, done
    assert done.err.count("[T2-J405]") == 1, done
    assert "the job master was told to end" in done.err, done
    assert sorted(path.name for path in jobs.folder.glob("tidied-*")) == ["tidied-0", "tidied-1"]
