"""Job masters that are started again, and jobs that go back into the queue, on a real Slurm."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from twister2.spec.errors import CapabilityError
from twister2.spec.rm import JobState

pytestmark = [pytest.mark.needs_slurm, pytest.mark.timeout(240)]
STANDS = 'echo "here $$"; exec sleep 300'
MASTER = 'echo "master $$ run $TWISTER2_RESTARTS left $(cat "${TWISTER2_TICKET%/*}/restarts-left")"; exec sleep 300'


def masters(backend, handle):
    """Process, number of the run, and restarts that are left, of each master that was started."""
    text = "".join(chunk.text for chunk in backend.logs(handle) if chunk.slot < 0)
    return [line.split()[1::2] for line in text.splitlines() if line.startswith("master ")]


def test_a_master_that_died_is_started_again_and_the_workers_go_on(jobs):
    backend, handle = jobs.submit(STANDS, MASTER, n=1, backend=jobs.backend(master_restarts=1))
    assert backend.offers.restarts_master
    ((pid, _, left),) = jobs.until(lambda: masters(backend, handle))
    assert left == "1"
    assert backend.remembered(handle) is None
    backend.remember(handle, b"note 1")
    backend.remember(handle, b"note 2")
    os.kill(int(pid), signal.SIGKILL)
    second = jobs.until(lambda: found[1] if len(found := masters(backend, handle)) == 2 else None)
    assert jobs.backend().remembered(handle) == b"note 2"
    assert second[2] == "0"
    assert jobs.output(backend, handle, 0).count("here") == 1
    assert backend.state(handle).state is JobState.RUNNING
    os.kill(int(second[0]), signal.SIGKILL)
    assert "exit code 137" in jobs.ended(backend, handle).reason


@pytest.mark.parametrize(("how", "shown"), [("completed", "COMPLETED"), ("failed", "FAILED"), ("killed", "FAILED")])
def test_how_the_job_ended_is_what_its_master_noted(jobs, how, shown):
    wait = 'until [ -e "$TWISTER2_TICKET.over" ]; do sleep 0.2; done'
    backend, handle = jobs.submit("exit 0", wait, n=1)
    jobs.until(lambda: backend.state(handle).state is JobState.RUNNING)
    backend.remember(handle, b"the end", JobState(how))
    assert not backend.master_returns(handle)
    open(f"{handle.facts['folder']}/slurm/ticket.over", "w").close()
    assert jobs.ended(backend, handle).state is JobState(how)
    assert jobs.of(handle) == {handle.native_id: shown}


def test_a_job_goes_back_into_the_queue_with_all_that_it_needs(jobs):
    told = 'trap "echo told $(date +%s)" TERM; ' + MASTER.replace("exec sleep 300", "sleep 300 & wait; sleep 300")
    backend, handle = jobs.submit(STANDS, told, n=2, backend=jobs.backend(requeue=True))
    assert backend.offers.renews
    jobs.until(lambda: len(masters(backend, handle)) == 1 and "here" in jobs.output(backend, handle, 1))
    backend.publish(handle, b"of the run before")
    backend.remember(handle, b"note")
    backend.renew(handle)
    jobs.hurry(handle.native_id)
    jobs.until(lambda: len(masters(backend, handle)) == 2)
    assert [run for _, run, _ in masters(backend, handle)] == ["0", "1"]
    jobs.until(lambda: jobs.output(backend, handle, 1).count("here") == 2)
    files = f"{handle.facts['folder']}/slurm"
    assert sorted(name for name in os.listdir(files) if "ticket" in name) == ["master-ticket"]
    assert backend.remembered(handle) == b"note"
    assert backend.state(handle).state is JobState.RUNNING
    assert backend.state(handle).slots == {}
    backend.kill(handle, 0.5)
    assert backend.state(handle).state is JobState.KILLED
    assert not [name for name in os.listdir(files) if name.endswith("ticket")]


def test_a_master_that_slurm_ends_knows_whether_it_comes_back(jobs):
    """It asks when it is told to end, before it is killed."""
    backend, handle = jobs.submit(STANDS, MASTER, n=1, backend=jobs.backend(requeue=True))
    jobs.until(lambda: masters(backend, handle))
    subprocess.run(["scontrol", "requeuehold", handle.native_id], check=True, timeout=60)
    assert backend.master_returns(handle)
    jobs.until(lambda: "was put back into the queue" in backend.state(handle).reason)
    assert backend.master_returns(handle)
    subprocess.run(["scancel", handle.native_id], check=True, timeout=60)
    assert not backend.master_returns(handle)
    assert jobs.ended(backend, handle).state is JobState.KILLED


def test_only_jobs_that_may_go_back_do(jobs):
    backend, handle = jobs.submit(STANDS, MASTER, n=1)
    jobs.until(lambda: masters(backend, handle))
    assert not backend.offers.renews
    refused = subprocess.run(["scontrol", "requeue", handle.native_id], capture_output=True, text=True, timeout=60)
    print(refused)
    with pytest.raises(CapabilityError, match="master is in the client"):
        jobs.submit(STANDS, n=1, backend=jobs.backend(requeue=True))
    backend.kill(handle, 0.5)


def test_what_slurm_says_of_the_end_is_passed_on(jobs):
    backend, handle = jobs.submit(STANDS, MASTER, n=1, walltime_s=3600)
    jobs.until(lambda: masters(backend, handle))
    first = jobs.until(lambda: backend.state(handle).ends_at)
    subprocess.run(["scontrol", "update", f"JobId={handle.native_id}", "TimeLimit=120"], check=True, timeout=60)
    jobs.until(lambda: 3500 < backend.state(handle).ends_at - first < 3700)
    backend.kill(handle, 0.5)
