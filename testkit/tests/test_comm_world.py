"""Worlds of transports: who hangs is told, and where, before the test's own time is over."""

from __future__ import annotations

import os
import time
import uuid

import pytest

from twister2_testkit.comm_world import Died, RankFailedError, World
from twister2_testkit.loopback import LoopbackTransport
from twister2_testkit.processes import exit_code
from twister2_testkit.segments import FOLDER


def world(processes, size=2):
    return World(size, LoopbackTransport, processes=processes, timeout_s=0.2, grace_s=6.0, close=False)


@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_a_rank_that_hangs_is_named_with_the_line_where_it_is(processes):
    def waits_for_ever():
        if processes:
            os.read(os.pipe()[0], 1)
        time.sleep(15)

    def body(rank):
        if rank.id == 1:
            waits_for_ever()
        return rank.id

    began = time.monotonic()
    with pytest.raises(RankFailedError, match=r"workers \[1\] did not end") as caught:
        world(processes).run(body)
    assert time.monotonic() - began < 60
    assert "worker 1:" in str(caught.value)
    assert "in waits_for_ever" in str(caught.value)


def test_a_rank_that_ends_without_a_result_has_died_and_keeps_nobody():
    assert world(True).run(lambda rank: os._exit(3) if rank.id else "here") == ["here", Died(3)]


def test_a_child_that_does_not_end_is_killed_and_fails_the_test():
    pid = os.fork()
    if pid == 0:
        try:
            time.sleep(600)
        finally:
            os._exit(0)
    with pytest.raises(pytest.fail.Exception, match=f"process {pid} did not end within"):
        exit_code(pid, 0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_killed_ranks_leave_in_shared_memory_goes_with_the_world(tmp_path):
    """As a job's supervisors would see to: the test has ended ranks that might have removed it themselves."""
    mark = f"world_{uuid.uuid4().hex}"
    theirs, other = FOLDER / f"{mark}_theirs", FOLDER / f"other_{mark}"

    def body(rank):
        if rank.id == 1:
            theirs.touch()
            other.touch()
            (tmp_path / "made").touch()
            time.sleep(60)
        while not (tmp_path / "made").exists():
            time.sleep(0.01)
        raise ValueError("the end")

    world = World(2, LoopbackTransport, processes=True, timeout_s=60, close=False, segments=[f"{mark}*"])
    try:
        with pytest.raises(RankFailedError, match="the end"):
            world.run(body)
        assert not theirs.exists()
        assert other.exists()
    finally:
        for path in (theirs, other):
            path.unlink(missing_ok=True)
