"""Worlds that are not what the job needs, and what stays behind."""

from __future__ import annotations

import os
import signal

import attrs
import pytest

from twister2_comm_mpi.config import MpiConfig
from twister2_comm_mpi.plugin import FACTS, MpiPlugin
from twister2_testkit.comm_pmi import PmiWorld
from twister2_testkit.comm_world import RankFailedError, World
from twister2_testkit.processes import wait_until
from twister2_testkit.segments import left_behind

pytestmark = pytest.mark.needs_mpi


def make(context):
    return MpiPlugin().comm_create(config=MpiConfig(), context=context)


def world(size, make=make, services=PmiWorld, close=True):
    return World(size, make, processes=True, services=services, close=close, segments=FACTS.segments)


def test_processes_that_are_alone_are_told_how_to_become_a_world():
    with pytest.raises(RankFailedError, match="the MPI world has 1 process, the job has 2 workers") as caught:
        world(2, services=lambda size: None).run(lambda rank: None)
    assert "rm.slurm.mpi" in str(caught.value)


def test_ranks_of_two_attempts_are_not_one_world():
    def mixed(context):
        return make(attrs.evolve(context, attempt=1 + context.rank))

    with pytest.raises(RankFailedError, match="do not belong together"):
        world(2, make=mixed).run(lambda rank: None)


def test_the_rank_in_the_programs_communicator_is_the_worker_id():
    def body(rank):
        comm = rank.transport.mpi_communicator()
        return comm.rank, comm.allreduce(rank.id)

    assert world(3).run(body) == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.faults
def test_no_segment_stays_behind_when_a_rank_is_killed():
    before = left_behind(FACTS.segments)

    def body(rank):
        rank.sync("up")
        if rank.id == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        rank.transport.close(aborted=True)

    world(2, close=False).run(body)
    wait_until(lambda: left_behind(FACTS.segments) <= before, 10, lambda: f"left: {left_behind(FACTS.segments)}")


def test_the_probe_names_the_library():
    probe = MpiPlugin().comm_probe(config=MpiConfig())
    assert probe.ok
    assert "MPI" in probe.text


@pytest.mark.parametrize("level", ["funneled", "serialized", "multiple"])
def test_a_library_without_threads_is_an_error_that_names_the_level(level):
    def without_threads(context):
        from twister2_comm_mpi import world as module

        class Library:
            """The MPI library as if it were built without threads."""

            def __getattr__(self, name):
                return getattr(MPI, name)

            @staticmethod
            def Init_thread(required):
                MPI.Init_thread(MPI.THREAD_SINGLE)
                return MPI.THREAD_SINGLE

        MPI, module.MPI = module.MPI, Library()
        return MpiPlugin().comm_create(config=MpiConfig(thread_level=level), context=context)

    with pytest.raises(RankFailedError, match=f"does not offer the thread level {level}") as caught:
        world(2, make=without_threads).run(lambda rank: None)
    assert "comm.mpi.thread_level" in str(caught.value)
