"""Two hosts with a cable between them: cut and healed, cut for good, lossy. Real jobs over TCP and CURVE."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from twister2_testkit.hosts import Hosts
from twister2_testkit.jobs import Done, Jobs

pytestmark = [pytest.mark.timeout(180), pytest.mark.faults, pytest.mark.needs_netns]

PROGRAM = """
    import os, pathlib, sys, time
    import numpy
    from twister2_net import allreduce

    def main(env):
        folder, turns, pause = pathlib.Path(env.args[0]), int(env.args[1]), float(env.args[2])
        own = {host for host in numpy.unique([str(worker.node.addresses) for worker in env.controller.workers()])}
        total = numpy.zeros(40_000, "i8")
        for turn in range(turns):
            total += allreduce(env, numpy.arange(40_000) * (env.worker_id + 1) + turn)
            if turn == 20 and env.worker_id == 0:
                (folder / ".new").write_text(str(len(own)))
                os.replace(folder / ".new", folder / f"running-{env.attempt}")
            time.sleep(pause)
        assert (total == turns * 3 * numpy.arange(40_000) + turns * (turns - 1)).all(), "a sum is wrong"
        if env.worker_id == 0:
            print("right in attempt", env.attempt)
"""
QUICK = ("-q", "-o", "job.heartbeat_s=0.5", "-o", "job.lost_after_s=4", "-o", "job.master_lost_s=8")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Hosts(2) as made:
        yield made
    assert made.left() == []


class Running:
    """A job on both hosts that is in the midst of its turns."""

    def __init__(self, jobs: Jobs, hosts: Hosts, *options: str, turns: int = 300, pause_s: float = 0.01) -> None:
        self.jobs = jobs
        program = jobs.program(PROGRAM)
        networks = (
            "-o",
            f"rm.hostile.networks={','.join(hosts.names)}",
            "-o",
            "rm.hostile.twice=0",
            "-o",
            "job.comm=tcp",
            "-o",
            "comm.tcp.same_host=tcp",
        )
        words = (*QUICK, *networks, *options, program, str(jobs.folder), str(turns), str(pause_s))
        self.client = jobs.start("submit", "hostile", "-n", "2", *words)
        assert jobs.until_file("running-1") == "2", "the workers must be on different hosts"

    def finish(self) -> Done:
        return self.client.finish(90)


def test_a_short_cut_is_not_noticed(jobs: Jobs, hosts: Hosts) -> None:
    patient = ("-o", "job.lost_after_s=30", "-o", "job.master_lost_s=60")  # what is sent again may be a while in coming
    job = Running(jobs, hosts, *patient)
    hosts.cut(1)
    time.sleep(2.0)
    hosts.heal(1)
    done = job.finish()
    assert (done.code, done.out) == (0, "right in attempt 1\n"), done


def test_a_long_cut_is_a_lost_worker_and_the_next_attempt_is_right(jobs: Jobs, hosts: Hosts) -> None:
    job = Running(jobs, hosts)
    hosts.cut(1)
    time.sleep(7.0)  # lost after 4 s
    hosts.heal(1)
    done = job.finish()
    assert (done.code, done.out) == (0, "right in attempt 2\n"), done
    assert [event["worker"] for event in jobs.events("worker_lost")] == [1]


def test_a_host_that_never_comes_back_is_one_clear_error(jobs: Jobs, hosts: Hosts) -> None:
    job = Running(jobs, hosts, "-o", "job.attempts=1")
    try:
        hosts.cut(1)
        done = job.finish()
        assert done.code not in (0, -9), done
        assert done.err.count("[T2-") == 1, done
        assert "worker 1" in done.err, done
        assert "Traceback" not in done.err, done
    finally:
        hosts.heal(1)


def test_workers_that_do_not_reach_each_other_while_both_reach_the_master(jobs: Jobs, hosts: Hosts) -> None:
    job = Running(jobs, hosts, "-o", "job.attempts=1", "-o", "comm.tcp.unreachable_s=6", turns=1000)
    hosts.part()
    try:
        begun = time.monotonic()
        done = job.finish()
        assert time.monotonic() - begun < 60
        assert done.code != 0
        assert done.err.count("[T2-") == 1, done
        assert "cannot be reached" in done.err, done
    finally:
        hosts.part(False)


def test_a_lossy_cable_makes_it_slow_not_wrong(jobs: Jobs, hosts: Hosts) -> None:
    hosts.lose(2)
    before = hosts.dropped()
    try:
        done = Running(jobs, hosts, turns=60, pause_s=0.0).finish()
        assert (done.code, done.out) == (0, "right in attempt 1\n"), done
        assert hosts.dropped() > before, "nothing was lost: this test has shown nothing"
    finally:
        hosts.lose(0)
