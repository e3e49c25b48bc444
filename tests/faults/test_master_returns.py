"""A job master that its resource manager starts again: workers are taken back, answers are those of a quiet run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from twister2_testkit.jobs import Client, Done, Jobs
from twister2_testkit.processes import carrying, wait_until

pytestmark = [pytest.mark.timeout(180), pytest.mark.faults]

QUICK = ("-q", "-o", "job.heartbeat_s=0.25", "-o", "job.lost_after_s=4", "-o", "job.master_return_s=60")
STEPS, WORKERS = 16, 3
PROGRAM = """
import sys, time
from pathlib import Path
from twister2_net import allreduce

def main(env):
    steps, total = env.state("steps", 0), env.state("total", 0)
    print("attempt", env.attempt, "from", steps.value, flush=True)
    while Path(sys.argv[1]).with_name("hold").exists():
        time.sleep(0.05)
    while steps.value < 16:
        total.value += allreduce(env, (steps.value + 1) * (env.worker_id + 1))
        steps.value += 1
        if steps.value % 3 == 0:
            env.commit()
        time.sleep(0.1)
    print("answer", total.value, flush=True)
    Path(sys.argv[1], str(env.worker_id)).write_text(str(total.value))
"""
ANSWER = sum(range(1, STEPS + 1)) * sum(range(1, WORKERS + 1))


def start(jobs: Jobs, *options: str, restarts: int = 4) -> Client:
    command = ("submit", "hostile", "-n", str(WORKERS), *QUICK, "-o", f"rm.hostile.master_restarts={restarts}")
    (jobs.folder / "answers").mkdir()
    return jobs.start(*command, *options, jobs.program(PROGRAM), jobs.folder / "answers")


def answered(jobs: Jobs, done: Done) -> None:
    """Every worker had the answer. What it wrote in the last moments of a master may be missing, its files are not."""
    assert done.code == 0, done
    files = {path.name: path.read_text() for path in (jobs.folder / "answers").iterdir()}
    assert files == {str(worker): str(ANSWER) for worker in range(WORKERS)}, done
    lines = {line for line in done.out.splitlines() if line.startswith("answer")}
    assert lines <= {f"answer {ANSWER}"}, done
    name = jobs.job().name
    wait_until(lambda: not carrying(name), 60.0, lambda: f"left behind: {carrying(name)}")


def masters(jobs: Jobs) -> list[int]:
    """Processes of job masters that run."""
    found = []
    for folder in jobs.folders():
        for pid in carrying(folder.name):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"twister2.master" in words:
                found.append(pid)
    return found


def said(jobs: Jobs) -> str:
    """What worker 0 wrote, as far as the client has it."""
    return "".join(path.read_text() for path in jobs.state.glob("jobs/*/logs/worker-0.log"))


def next_master(jobs: Jobs, before: set[int], client: Client) -> int:
    """The next life of the master; 0 when the job has ended."""
    new: list[int] = []

    def is_there() -> bool:
        new[:] = [pid for pid in masters(jobs) if pid not in before]
        return bool(new) or client.process.poll() is not None

    wait_until(is_there, 90.0, lambda: f"no other master than {before}")
    return new[0] if new else 0


def held(jobs: Jobs, *options: str) -> tuple[Client, int]:
    """A job whose first attempt runs, and goes on when the file is removed; with the process of its master."""
    (jobs.folder / "hold").touch()
    client = start(jobs, *options)
    wait_until(lambda: "attempt 1" in said(jobs), 90.0, lambda: f"no attempt began: {said(jobs)}")
    master = next_master(jobs, set(), client)
    assert master, client.finish(10)  # a signal to 0 would reach the tests themselves
    return client, master


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_the_answer_is_the_same(jobs: Jobs, seed: int) -> None:
    chance = random.Random(seed)
    print("seed", seed)
    client = start(jobs, "-o", f"state.file.path={jobs.folder}/store", "-o", f"rm.hostile.seed={seed}")
    killed: set[int] = set()
    for number in (signal.SIGKILL, chance.choice((signal.SIGKILL, signal.SIGTERM)), signal.SIGKILL):
        pid = next_master(jobs, killed, client)
        if not pid:
            break
        time.sleep(chance.uniform(0.0, 4.0))
        killed.add(pid)
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
    answered(jobs, client.finish(120))


def test_killed_when_its_manager_knows_of_the_end_the_next_life_tells_the_client(jobs: Jobs) -> None:
    """The client is stopped meanwhile, so that it hears nothing; where the next life is has to be known."""
    client, first = held(jobs)
    client.process.send_signal(signal.SIGSTOP)
    (jobs.folder / "hold").unlink()
    try:
        objects = jobs.state / "rm-hostile" / jobs.job().name
        ended, ticket = objects / "ended", objects / "ticket"
        wait_until(lambda: ended.exists() and "completed" in ended.read_text(), 90.0, lambda: "the job does not end")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: json.loads(ticket.read_text())["master"] == 2, 60.0, ticket.read_text)
    finally:
        client.process.send_signal(signal.SIGCONT)
    answered(jobs, client.finish(120))


def test_one_that_hangs_is_killed_and_its_workers_go_on_with_the_next_life(jobs: Jobs) -> None:
    """For its manager it runs: it is the process beside it that ends it, in time for the workers."""
    client, first = held(jobs, "-o", "job.master_return_s=40")
    os.kill(first, signal.SIGSTOP)
    (jobs.folder / "hold").unlink()
    answered(jobs, client.finish(120))
    events = (json.loads(line) for line in (jobs.job() / "events.jsonl").read_text().splitlines())
    assert [event["master"] for event in events if event["event"] == "master_returned"] == [2]


def test_given_up_by_its_manager_it_is_the_end_with_that_reason(jobs: Jobs) -> None:
    client = start(jobs, restarts=1)
    wait_until(lambda: "attempt 1" in said(jobs), 90.0, lambda: f"no attempt began: {said(jobs)}")
    killed: set[int] = set()
    for _ in range(2):
        pid = next_master(jobs, killed, client)
        assert pid, client.finish(10)
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
    done = client.finish(120)
    assert done.code != 0
    assert "the master exited 137" in done.err, done
    name = jobs.job().name
    wait_until(lambda: not carrying(name), 60.0, lambda: f"left behind: {carrying(name)}")
    status = jobs.cli("status", "last")
    assert "failed" in status.out.lower(), status
    assert "the master exited 137" in status.out + status.err, status


def test_detached_the_package_is_there_when_master_and_workers_have_all_gone(jobs: Jobs) -> None:
    """As on a node that has both: nobody is left who has had it from the client."""
    (jobs.folder / "hold").touch()
    options = ("--detach", "-o", "rm.hostile.master_restarts=2", "-o", "rm.hostile.ticket_limit=1000000")
    (jobs.folder / "answers").mkdir()
    command = ("submit", "hostile", "-n", str(WORKERS), *QUICK[1:], *options)
    submitted = jobs.start(*command, jobs.program(PROGRAM), jobs.folder / "answers").finish(120)
    assert submitted.code == 0, submitted
    assert "raise job.master_return_s" not in submitted.err
    job_id = submitted.out.strip()
    wait_until(lambda: jobs.cli("logs", job_id).out.count("attempt 1") == WORKERS, 90.0, lambda: "no attempt began")
    for pid in carrying(job_id):
        with contextlib.suppress(OSError):  # one that ends with those before
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if {b"twister2.master", b"twister2.worker"} & set(words):
                os.kill(pid, signal.SIGKILL)
    (jobs.folder / "hold").unlink()
    waited = jobs.cli("wait", job_id, timeout_s=150.0)
    assert waited.code == 0, waited
    files = {path.name: path.read_text() for path in (jobs.folder / "answers").iterdir()}
    assert files == {str(worker): str(ANSWER) for worker in range(WORKERS)}
