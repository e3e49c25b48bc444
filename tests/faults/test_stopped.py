"""Processes that are stopped and go on: a user process is slow, a supervisor is lost and refused when it wakes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from twister2.spec.errors import MasterLostError
from twister2_testkit.jobs import Client, Jobs
from twister2_testkit.processes import ended, wait_until

pytestmark = [pytest.mark.timeout(120), pytest.mark.faults]

GATHERS = """
    import os, pathlib
    from twister2_net import allreduce, keyed_gather

    def main(env):
        turn, over = 0, 0
        while not over:
            pairs = [(number % 100, (env.worker_id, turn)) for number in range(2000)]
            for key, values in keyed_gather(env, pairs):
                expected = [(worker, turn) for worker in range(env.n_workers)] * 20
                assert sorted(values) == sorted(expected), (turn, key)
            turn += 1
            if turn == 5:
                mine = pathlib.Path(f"ready-{env.worker_id}")
                mine.with_suffix(".new").write_text(str(os.getpid()))
                mine.with_suffix(".new").rename(mine)
            over = allreduce(env, int(turn > 5 and pathlib.Path("go").exists()), "max")
        assert env.network.transport_name(1 - env.worker_id) == env.args[0]
        print("right in attempt", env.attempt)
"""
KINDS = {
    "shm": ("shm", ()),
    "tcp": ("tcp", ("-o", "job.comm=tcp", "-o", "comm.tcp.same_host=tcp")),
    "mpi": ("mpi", ("-o", "job.comm=mpi")),
}


def stopped_and_resumed(jobs: Jobs, kind: str, seconds: float, *options: str) -> None:
    transport, chosen = KINDS[kind]
    client = jobs.start("submit", "standalone", "-q", "-n", "2", *options, *chosen, jobs.program(GATHERS), transport)
    pid = int(jobs.until_file("ready-1"))
    os.kill(pid, signal.SIGSTOP)
    # The program ends once it is resumed, and not before: it was in the midst of its gathers.
    (jobs.folder / "go").touch()
    time.sleep(seconds)
    assert client.process.poll() is None, client.finish()
    assert jobs.events("worker_lost") == jobs.events("abort") == []
    os.kill(pid, signal.SIGCONT)
    done = client.finish()
    assert (done.code, done.out) == (0, "right in attempt 1\n" * 2), done
    assert len(jobs.events("attempt_started")) == 1


ALL_KINDS = ["shm", "tcp", pytest.param("mpi", marks=pytest.mark.needs_mpi)]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_stopped_user_process_is_slow(jobs: Jobs, kind: str) -> None:
    stopped_and_resumed(jobs, kind, 6.0, "-o", "job.heartbeat_s=0.25", "-o", "job.lost_after_s=4")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_half_a_minute_with_the_usual_deadlines(jobs: Jobs, kind: str) -> None:
    stopped_and_resumed(jobs, kind, 30.0)


WAITS = """
    import os, pathlib, time

    def main(env):
        folder = pathlib.Path(env.args[0])
        env.barrier()
        mine = folder / f"ready-{env.attempt}-{env.worker_id}"
        mine.with_suffix(".new").write_text(f"{os.getpid()} {os.getppid()}")
        mine.with_suffix(".new").rename(mine)
        while not any(env.controller.exchange("go", (folder / "go").exists())):
            time.sleep(0.05)
        print("attempt", env.attempt, "worker", env.worker_id)
"""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_a_supervisor_that_wakes_out_of_reach_of_the_manager_is_refused_and_ends(jobs: Jobs) -> None:
    """Its node answers nobody, so it is lost after five seconds and a copy takes its place while it still exists."""
    options = ("-q", "-o", "rm.hostile.out_of_reach=1", "-o", "rm.hostile.twice=0", "-o", "job.master_lost_s=100")
    client = jobs.start("submit", "hostile", "-n", "2", *options, jobs.program(WAITS), str(jobs.folder))
    user, server = map(int, jobs.until_file("ready-1-1").split())
    supervisor = parent(server)
    os.kill(supervisor, signal.SIGSTOP)
    begun = time.monotonic()
    jobs.until_file("ready-2-1")
    assert time.monotonic() - begun > 2.0, "job.lost_after_s is 5 s, and its last beat may have been late"
    assert not ended(supervisor), "the manager has reached it: this test has shown nothing"

    os.kill(supervisor, signal.SIGCONT)
    three = (supervisor, server, user)
    wait_until(lambda: all(map(ended, three)), 60, lambda: f"of {three} there are {[p for p in three if not ended(p)]}")
    assert client.process.poll() is None, client.finish()
    (jobs.folder / "go").touch()
    done = client.finish()
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["attempt 2 worker 0", "attempt 2 worker 1"], done
    assert [event["worker"] for event in jobs.events("worker_lost")] == [1]
    assert [event["attempt"] for event in jobs.events("attempt_started")] == [1, 2]


TURNS = """
    import pathlib, time

    def main(env):
        pathlib.Path(f"up-{env.attempt}-{env.worker_id}").touch()
        while env.attempt == 1:
            env.progress(0.5)
            time.sleep(0.1)
        print("attempt", env.attempt)
"""
LOST = ("-q", "-o", "job.heartbeat_s=0.25", "-o", "job.lost_after_s=2", "-o", "job.master_lost_s=3")


def stopped_master(jobs: Jobs) -> tuple[Client, list[int]]:
    """A job whose client and master are stopped, and whose workers have given them up."""
    client = jobs.start("submit", "standalone", "-n", "2", *LOST, jobs.program(TURNS))
    jobs.until_file("up-1-0")
    jobs.until_file("up-1-1")
    (master,) = jobs.pids("master")
    both = [client.process.pid, master]
    workers = jobs.pids("supervisor")
    assert len(workers) == 2, workers
    for pid in both:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(map(ended, workers)), 60, jobs.picture)
    return client, both


def test_a_master_that_was_stopped_for_long_starts_its_workers_again(jobs: Jobs) -> None:
    """They have ended meanwhile; new ones reach it, and who asked in between has ended nothing."""
    client, both = stopped_master(jobs)
    status = jobs.cli("status", "last")
    assert status.code == 0, status
    assert f"(process {both[1]}) lives, but does not answer" in status.out, status
    assert jobs.events("job_ended") == []
    for pid in both:
        os.kill(pid, signal.SIGCONT)
    done = client.finish()
    assert (done.code, done.out) == (0, "attempt 2\n" * 2), done
    assert len(jobs.events("job_ended")) == 1


def test_a_master_whose_job_was_declared_ended_while_it_was_stopped_ends_it_so(jobs: Jobs) -> None:
    """Another host that sees the state folder cannot see whether the master's process lives."""
    client, both = stopped_master(jobs)
    error = MasterLostError("nobody of the job was there", why="another host saw none", remedy="none").to_dict()
    ending = {"state": "failed", "reason": error["what"], "ended": time.time(), "error": error, "tidied": True}
    (jobs.job() / "state.json").write_text(json.dumps(ending))
    for pid in both:
        os.kill(pid, signal.SIGCONT)
    done = client.finish()
    assert done.code == 1, done
    assert "[T2-J404] nobody of the job was there" in done.err, done
    assert json.loads((jobs.job() / "state.json").read_text()) == ending
    assert [jobs.events(kind) for kind in ("job_ended", "worker_lost")] == [[], []]
