"""Jobs that are more than one allocation: additional jobs, and components of different shapes. On a real Slurm."""

from __future__ import annotations

import pytest

from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2.spec.rm import JobState, ResourceGroup

pytestmark = [pytest.mark.needs_slurm, pytest.mark.timeout(240)]
STANDS = 'echo "here $SLURM_JOB_ID $SLURM_CPUS_PER_TASK"; exec sleep 300'


def here(jobs, backend, handle, slot):
    """Number of the job of Slurm that a copy runs in, and its CPUs; once for each time that it was started."""
    return [line.split()[1:] for line in jobs.output(backend, handle, slot).splitlines()]


def test_an_additional_job_waits_beside_the_job_and_says_why(jobs):
    backend, handle = jobs.submit(STANDS, "exec sleep 300", n=2)
    jobs.until(lambda: len(here(jobs, backend, handle, 1)) == 1)
    backend.resize(handle, 3, ResourceGroup("w", 1, cpus=2))
    backend.resize(handle, 5000, ResourceGroup("w", 4997))
    status = jobs.until(lambda: status if "may never start" in (status := backend.state(handle)).pending else None)
    assert status.state is JobState.RUNNING
    assert "Slurm job" in status.pending
    assert status.slots[4999].startswith("waits"), status.slots[4999]
    ((number, cpus),) = jobs.until(lambda: here(jobs, backend, handle, 2))
    assert number != handle.native_id
    assert cpus == "2"
    jobs.backend().resize(handle, 3)
    jobs.until(lambda: not backend.state(handle).pending)  # it remembers for a second what Slurm said
    assert sorted(jobs.of(handle).values()) == ["CANCELLED", "RUNNING", "RUNNING"]
    backend.resize(handle, 2)
    jobs.until(lambda: sorted(jobs.of(handle).values()) == ["CANCELLED", "CANCELLED", "RUNNING"])
    assert len(here(jobs, backend, handle, 1)) == 1, "a copy that stays was disturbed"
    assert backend.state(handle).slots == {}
    backend.resize(handle, 4)
    jobs.until(lambda: len(here(jobs, backend, handle, 2)) == 2 and len(here(jobs, backend, handle, 3)) == 1)
    jobs.backend().kill(handle, 0.5)
    assert "RUNNING" not in jobs.of(handle).values()
    assert "PENDING" not in jobs.of(handle).values()
    assert backend.clean(handle) == []


def test_the_end_of_the_job_is_that_of_its_additional_jobs(jobs):
    backend, handle = jobs.submit(STANDS, 'until [ -e "$TWISTER2_TICKET.over" ]; do sleep 0.2; done', n=1)
    jobs.until(lambda: here(jobs, backend, handle, 0))
    backend.resize(handle, 2)
    backend.resize(handle, 4000)
    jobs.until(lambda: here(jobs, backend, handle, 1))
    open(f"{handle.facts['folder']}/slurm/ticket.over", "w").close()
    jobs.until(lambda: not {"RUNNING", "PENDING", "COMPLETING"} & set(jobs.of(handle).values()))
    assert jobs.of(handle)[handle.native_id] == "COMPLETED"


def test_a_copy_of_an_additional_job_begins_again_also_when_that_has_ended(jobs):
    backend, handle = jobs.submit(STANDS, "exec sleep 300", n=1)
    jobs.until(lambda: here(jobs, backend, handle, 0))
    backend.resize(handle, 2)
    ((first, _),) = jobs.until(lambda: here(jobs, backend, handle, 1))
    backend.stop_attempt(handle, [1], 0.5)
    jobs.until(lambda: 1 in backend.state(handle).slots)
    backend.start_attempt(handle, 2, [1])
    jobs.until(lambda: [number for number, _ in here(jobs, backend, handle, 1)] == [first, first])
    assert backend.state(handle).slots == {}
    backend._more.cancel([first])
    told = jobs.until(lambda: backend.state(handle).slots.get(1))
    assert told.startswith(("ended", "exited"))
    backend.start_attempt(handle, 3, [1])
    numbers = jobs.until(lambda: found if len(found := here(jobs, backend, handle, 1)) == 3 else None)
    assert numbers[2][0] not in (first, handle.native_id)
    backend.kill(handle, 0.5)


def test_an_additional_job_that_slurm_refuses_changes_nothing(jobs):
    backend, handle = jobs.submit(STANDS, "exec sleep 300", n=1)
    jobs.until(lambda: here(jobs, backend, handle, 0))
    with pytest.raises(ResourceError):
        backend.resize(handle, 2, ResourceGroup("w", 1, memory_mb=10**7))
    with pytest.raises(SubmissionRefusedError, match="did not accept"):
        jobs.backend(partition="nosuch").resize(handle, 2)
    assert {number for number, state in jobs.of(handle).items() if state != "FAILED"} == {handle.native_id}
    assert backend.state(handle).pending == ""
    backend.resize(handle, 2)
    jobs.until(lambda: here(jobs, backend, handle, 1))
    backend.kill(handle, 0.5)


UNEQUAL = (ResourceGroup("reader", 2), ResourceGroup("trainer", 1, cpus=3, memory_mb=900))


@pytest.mark.parametrize("master", ["exec sleep 300", ""])
def test_groups_that_differ_are_components(jobs, master):
    backend, handle = jobs.submit(STANDS, master, groups=UNEQUAL)
    jobs.until(lambda: all(here(jobs, backend, handle, slot) for slot in range(3)))
    cpus = [here(jobs, backend, handle, slot)[0][1] for slot in range(3)]
    assert cpus == ["1", "1", "3"]
    assert {number for number in jobs.of(handle)} == {f"{handle.native_id}+{part}" for part in (0, 1)}
    assert backend.state(handle).state is JobState.RUNNING
    assert jobs.backend().find(handle.job_id) == handle
    backend.stop_attempt(handle, [2, 1], 0.3)
    jobs.until(lambda: set(backend.state(handle).slots) == {1, 2})
    backend.start_attempt(handle, 2, [1, 2])
    jobs.until(lambda: [len(here(jobs, backend, handle, slot)) for slot in range(3)] == [1, 2, 2])
    assert here(jobs, backend, handle, 2)[1][1] == "3"
    backend.kill(handle, 0.5)
    assert backend.state(handle).state is JobState.KILLED
    assert set(jobs.of(handle).values()) == {"CANCELLED"}


def test_a_process_world_of_groups_that_differ(jobs):
    worker = 'echo "$PMI_RANK of $PMI_SIZE is $TWISTER2_SLOT"; exec sleep 300'
    backend, handle = jobs.submit(worker, "exec sleep 300", groups=UNEQUAL, world="pmi2")
    wanted = [f"{slot} of 3 is {slot}\n" for slot in range(3)]
    jobs.until(lambda: [jobs.output(backend, handle, slot) for slot in range(3)] == wanted)
    backend.kill(handle, 0.5)


def test_a_heterogeneous_job_ends_as_its_script_does(jobs):
    backend, handle = jobs.submit("exit 0", "sleep 1; exit 4", groups=UNEQUAL, backend=jobs.backend(master_restarts=0))
    assert "exit code 4" in jobs.ended(backend, handle).reason
    backend, handle = jobs.submit("echo here", "", groups=UNEQUAL)
    assert jobs.ended(backend, handle).state is JobState.COMPLETED


def test_without_components_all_get_the_largest_share(jobs):
    backend = jobs.backend(hetjob=False)
    backend, handle = jobs.submit(STANDS, "exec sleep 300", groups=UNEQUAL, backend=backend)
    jobs.until(lambda: all(here(jobs, backend, handle, slot) for slot in range(3)))
    assert [here(jobs, backend, handle, slot)[0][1] for slot in range(3)] == ["3", "3", "3"]
    backend.kill(handle, 0.5)
