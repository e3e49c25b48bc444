"""Worlds from a command that does what a library's mpiexec does: whoever dies, nothing of them is left."""

from __future__ import annotations

import os
import signal
import sys
import textwrap

import pytest

from twister2.spec.errors import CapabilityError, MissingToolError, SubmissionRefusedError
from twister2.spec.rm import JobState
from twister2_testkit.processes import carrying, wait_until

MPIEXEC = """
    import os, subprocess, sys, uuid
    at, world = sys.argv.index("-n"), uuid.uuid4().hex
    size, command = int(sys.argv[at + 1]), sys.argv[at + 2 :]
    assert not [name for name in os.environ if name.startswith(("PMIX_", "SLURM_"))]
    ranks = [
        subprocess.Popen(command, env={**os.environ, "PMIX_RANK": str(rank), "PMIX_WORLD": world})
        for rank in range(size)
    ]
    for rank in ranks:
        rank.wait()
"""
TELL = 'echo $PMIX_RANK $PMIX_WORLD $TMPDIR >"$0/$TWISTER2_SLOT.part"; mv "$0/$TWISTER2_SLOT.part" "$0/$TWISTER2_SLOT"'


def until(condition, why="not in time"):
    wait_until(condition, 60.0, lambda: why)


@pytest.fixture
def mpiexec(tmp_path):
    script = tmp_path / "mpi exec.py"
    script.write_text(textwrap.dedent(MPIEXEC))
    return f"{sys.executable} '{script}'"


@pytest.fixture
def world(make_rm, allocation, mpiexec, tmp_path, monkeypatch):
    """Start a job of three slots in a world; what its copies told, by slot."""
    monkeypatch.setenv("PMIX_RANK", "77")  # of a surrounding world
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    rm, told, jobs = make_rm(mpiexec=mpiexec), tmp_path / "told", []
    told.mkdir()

    def look():
        until(lambda: len([path for path in told.iterdir() if path.suffix != ".part"]) == 3, "copies say nothing")
        return [(told / str(slot)).read_text().split() for slot in range(3)]

    def start(then="exec sleep 600"):
        jobs.append(rm.submit(allocation("sh", "-c", f"{TELL}; {then}", str(told), n=3, world="mpiexec")))
        return rm, jobs[-1], look()

    start.look, start.told = look, told
    yield start
    for handle in jobs:
        rm.kill(handle, 0.5)
        assert not rm.clean(handle)
        assert not carrying(handle.job_id)


def files(state_dir, handle):
    return list((state_dir / "rm-standalone" / handle.job_id).glob("world-*"))


def test_copies_have_the_ranks_of_one_world_that_ends_with_them(world, state_dir, tmp_path):
    rm, handle, told = world("sleep 0.1")
    assert [int(rank) for rank, *_ in told] == [0, 1, 2]
    assert len({name for _, name, _ in told}) == 1
    assert {folder for *_, folder in told} == {str(tmp_path)}, "temporary files of programs are where they were"
    until(lambda: rm.state(handle).state is JobState.COMPLETED, str(rm.state(handle)))
    until(lambda: not carrying(handle.job_id), "the world outlives its copies")
    assert not files(state_dir, handle)


@pytest.mark.faults
def test_every_attempt_has_a_new_world(world):
    rm, handle, first = world()
    rm.stop_attempt(handle, [0, 1, 2], 0.5)
    for path in world.told.iterdir():
        path.unlink()
    rm.start_attempt(handle, 2, [0, 1, 2], "mpiexec")
    second = world.look()
    assert [int(rank) for rank, *_ in second] == [0, 1, 2]
    assert second[0][1] != first[0][1]
    with pytest.raises(CapabilityError):
        rm.resize(handle, 4)


@pytest.mark.faults
def test_a_slot_cannot_be_started_into_a_world_that_runs(world):
    rm, handle, _ = world()
    rm.stop_attempt(handle, [1], 0.5)
    with pytest.raises(CapabilityError, match="alone"):
        rm.start_attempt(handle, 2, [1], "mpiexec")


@pytest.mark.faults
def test_a_world_ends_when_the_launcher_is_killed(world):
    _, handle, _ = world()
    os.kill(handle.facts["launchers"][0][0], signal.SIGKILL)
    until(lambda: not carrying(handle.job_id), "the world outlives its launcher")


@pytest.mark.faults
def test_a_kill_while_the_world_is_started_ends_everything(make_rm, allocation, tmp_path):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 600\n")
    slow.chmod(0o755)
    rm = make_rm(mpiexec=str(slow))
    handle = rm.submit(allocation("sleep", "600", world="mpiexec"))
    until(lambda: len(carrying(handle.job_id)) == 3, "launcher, mpiexec and its sleep")
    assert rm.state(handle).state is JobState.STARTING
    rm.kill(handle, 0.5)
    assert not carrying(handle.job_id)
    assert not rm.clean(handle)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo -----------; echo no hosts today >&2; exit 3", ("code 3", "no hosts today")),
        ('shift 2; exec env PMI_RANK=0 PMI_FD=9 "$@"', ("code 1", "PMI-1", "leave rm.standalone.mpiexec out")),
    ],
    ids=["no hosts", "MPICH's"],
)
def test_an_mpiexec_that_fails_is_the_reason_of_the_job(make_rm, allocation, tmp_path, script, words):
    broken = tmp_path / "broken"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    rm = make_rm(mpiexec=str(broken))
    handle = rm.submit(allocation("sleep", "600", world="mpiexec"))
    until(lambda: rm.state(handle).state is JobState.FAILED, "it does not fail")
    reason = rm.state(handle).reason
    for part in ("broken", *words):
        assert part in reason
    assert not rm.clean(handle)
    with pytest.raises(MissingToolError, match=r"mpiexec\.nowhere"):
        make_rm(mpiexec="mpiexec.nowhere").submit(allocation("true", world="mpiexec"))


def test_worlds_are_offered_with_the_option_only(make_rm, allocation):
    assert make_rm().offers.worlds == frozenset()
    assert make_rm(mpiexec="mpiexec.openmpi").offers.worlds == {"mpiexec"}
    with pytest.raises(SubmissionRefusedError, match="no mpiexec world") as caught:
        make_rm().submit(allocation("true", world="mpiexec"))
    assert "rm.standalone.mpiexec" in caught.value.remedy
