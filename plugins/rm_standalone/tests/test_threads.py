from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from twister2.spec.errors import CapabilityError, ResourceError, SubmissionRefusedError
from twister2.spec.rm import JobState
from twister2_testkit.processes import wait_until


class Work:
    """What runs in the threads: waits, and can be told to end or to raise."""

    def __init__(self):
        self.go, self.seen, self.error = threading.Event(), [], None

    def __call__(self, slot):
        self.seen.append((slot, threading.current_thread().name, threading.current_thread().daemon))
        assert self.go.wait(100)
        if self.error is not None and slot == 1:
            raise self.error


@pytest.fixture
def job(make_rm, allocation):
    rm, work = make_rm(workers_as="threads"), Work()
    handle = rm.submit(allocation(n=3, in_process=work))
    yield rm, handle, work
    work.go.set()
    rm.kill(handle, 10.0)
    assert rm.clean(handle) == []


def ended(rm, handle):
    wait_until(lambda: rm.state(handle).state.final, 30.0, lambda: str(rm.state(handle)))
    return rm.state(handle)


@pytest.mark.parametrize("option", [{"limits": ("cpus",)}, {"bind": "cpus"}])
def test_threads_that_are_to_be_confined_are_refused(make_rm, allocation, option):
    with pytest.raises(SubmissionRefusedError, match="neither confined nor bound"):
        make_rm(workers_as="threads", **option).submit(allocation(n=1, in_process=Work()))


def test_every_slot_is_a_thread_of_this_process(job, make_rm):
    _rm, handle, work = job
    wait_until(lambda: len(work.seen) == 3, 30.0, lambda: str(work.seen))
    assert sorted(work.seen) == [(slot, f"slot-{slot}", True) for slot in range(3)]
    other = make_rm(workers_as="threads")  # the master makes a backend of its own
    assert other.state(handle).state is JobState.RUNNING
    assert other.find(handle.job_id) is not None
    other.publish(handle, b"new")
    work.go.set()
    assert ended(other, handle).state is JobState.COMPLETED


def test_what_a_worker_raises_shows_in_the_state(job):
    rm, handle, work = job
    work.error = SystemExit("over")
    work.go.set()
    status = ended(rm, handle)
    assert status.state is JobState.FAILED
    assert status.slots[1] == "raised SystemExit: over"
    assert "slot 1" in status.reason
    work.error = None
    rm.start_attempt(handle, 2, [1])
    assert ended(rm, handle).state is JobState.COMPLETED


def test_threads_cannot_be_killed_and_kill_says_so(job):
    rm, handle, work = job
    with pytest.raises(ResourceError, match="a thread cannot be killed"):
        rm.kill(handle, 0.05)
    assert rm.clean(handle) != []
    work.go.set()
    rm.kill(handle, 10.0)
    assert rm.state(handle).state is JobState.KILLED


def test_another_process_cannot_kill_them_and_says_so(job, state_dir):
    rm, handle, _ = job
    code = (
        "from twister2.spec.rm import JobHandle, RmContext\n"
        "from twister2_rm_standalone.config import StandaloneConfig\n"
        "from twister2_rm_standalone.threads import ThreadManager\n"
        f"rm = ThreadManager(StandaloneConfig(), RmContext({str(state_dir)!r}))\n"
        f"rm.kill(JobHandle({handle.rm!r}, {handle.job_id!r}, '', {dict(handle.facts)!r}), 0.1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode != 0
    assert f"process {handle.facts['pid']}" in done.stderr
    assert rm.state(handle).state is JobState.RUNNING


def test_what_is_closed_says_why(job, make_rm, allocation):
    rm, handle, _ = job
    for name in ("supervised", "outlives_client", "worlds", "resizes", "master_in_allocation", "limits"):
        assert not getattr(rm.offers, name)
        assert rm.offers.why[name]
    with pytest.raises(CapabilityError):
        rm.resize(handle, 4)
    with pytest.raises(CapabilityError):
        rm.start_attempt(handle, 2, [0], world="pmi2")
    with pytest.raises(ResourceError):
        rm.open_channel(handle)
    with pytest.raises(SubmissionRefusedError):
        make_rm(workers_as="threads").submit(allocation())
    assert "thread" in rm.render(allocation())
    assert [*rm.logs(handle, follow=True)] == []


def test_a_job_that_was_cleaned_while_it_ran_is_forgotten_when_it_has_ended(make_rm, allocation):
    from twister2_rm_standalone import threads

    rm, work = make_rm(workers_as="threads"), Work()
    handle = rm.submit(allocation(n=2, in_process=work))
    assert len(rm.clean(handle)) == 2
    assert handle.job_id in threads._JOBS
    work.go.set()
    assert ended(rm, handle).state is JobState.COMPLETED
    other = Work()
    other.go.set()
    last = rm.submit(allocation(n=1, in_process=other, job_id="own-another"))
    assert handle.job_id not in threads._JOBS
    assert rm.clean(handle) == []
    ended(rm, last)
    assert rm.clean(last) == []
