"""On a Slurm of the tests' own: a node that dies (of workers only, or of the job master), and a full queue."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from twister2.spec.rm import JobState, ResourceGroup
from twister2_testkit.managed import ManagedJobs

pytestmark = [pytest.mark.needs_slurm, pytest.mark.faults, pytest.mark.timeout(300)]
SCRIPT = Path(__file__).parents[3] / "tests" / "clusters" / "slurm.sh"
PROGRAM = """
import os, pathlib, time

def main(env):
    turn = env.state("turn", 0)
    before = turn.value
    turn.value += 1
    env.commit()
    folder = pathlib.Path(env.args[0])
    (folder / f"{env.attempt}-{env.worker_id}").write_text(os.environ["SLURMD_NODENAME"])
    while not (folder / "go").exists():
        time.sleep(0.1)
    print("went on after", before, flush=True)
"""
LATE_S = 120.0
"""Slurm takes half a minute to see that a node has gone."""


@pytest.fixture
def cluster(monkeypatch):
    """Runs the script for a cluster of its own: others would suffer. Its folder's name is short."""
    monkeypatch.setenv("TWISTER2_SLURM_HOME", f"/tmp/t2-slurm-{os.getpid()}")

    def run(*arguments):
        done = subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        run("start", "3")
        (conf,) = re.findall(r"SLURM_CONF=(\S+)", run("env"))
        monkeypatch.setenv("SLURM_CONF", conf)
        yield run
    finally:
        run("clean")


@pytest.fixture
def submit(cluster, tmp_path):
    """Submits jobs of two workers on two nodes, the first of which has the job master."""
    with contextlib.ExitStack() as stack:

        def one(name, nodes, *options):
            folder = tmp_path / name
            (folder / "reports").mkdir(parents=True)
            twister2 = stack.enter_context(ManagedJobs(folder, "slurm", PROGRAM))
            where = f'rm.slurm.sbatch=["--nodes=2", "--nodelist={nodes}"]'
            options = [word for option in (where, *options) for word in ("-o", option)]
            return twister2, twister2("submit", "slurm", "-n", 2, *options, "program.py", folder / "reports")

        yield one


def test_a_node_dies(cluster, submit, jobs, tmp_path):
    made = {
        "other": submit("other", "n1,n2"),
        "first": submit("first", "n2,n3"),
        "again": submit("again", "n2,n3", "rm.slurm.requeue=true"),
    }
    reports = {name: tmp_path / name / "reports" for name in made}
    for name, (twister2, client) in made.items():
        there = [reports[name] / f"1-{worker}" for worker in (0, 1)]
        twister2.until(lambda there=there, client=client: all(map(Path.exists, there)) or client.poll() is not None)
        assert client.poll() is None, twister2.finish(client)
    assert [(reports[name] / "1-0").read_text() for name in made] == ["n1", "n2", "n2"]
    (number,) = [row[0] for row in jobs.shown("%i", "%k") if made["again"][0].job() in row[1]]
    cluster("kill-node", "n2")

    # the worker begins again on the other node, from the commit
    twister2, client = made["other"]
    twister2.until(lambda: (reports["other"] / "2-1").exists() or client.poll() is not None, LATE_S)
    assert client.poll() is None, twister2.finish(client)
    (reports["other"] / "go").touch()
    code, out, err = twister2.finish(client)
    assert code == 0, err
    assert out.splitlines() == ["went on after 1"] * 2
    assert (reports["other"] / "2-1").read_text() == "n1"

    # nobody is left who could begin anything again
    twister2, client = made["first"]
    code, _, err = twister2.finish(client, LATE_S)
    assert code == 1, err
    assert "its first node failed, and with it the job's script and its job master" in err

    # back into the queue
    twister2, client = made["again"]
    twister2.until(lambda: jobs.shown("%T", "%i").count(["RUNNING", number]) == 0, LATE_S)
    cluster("start-node", "n2")
    jobs.hurry(number)
    twister2.until(lambda: (reports["again"] / "2-1").exists() or client.poll() is not None, LATE_S)
    assert client.poll() is None, twister2.finish(client)
    (reports["again"] / "go").touch()
    code, out, err = twister2.finish(client)
    assert code == 0, err
    assert out.splitlines() == ["went on after 1"] * 2
    assert not [row for row in jobs.shown("%T", "%i") if row[0] == "RUNNING"]


def test_a_full_queue(cluster, jobs):
    """Two jobs, each of which takes all memory of all nodes."""
    everything = (ResourceGroup("w", 3, memory_mb=8000),)
    backend, first = jobs.submit("sleep 600", groups=everything)
    jobs.until(lambda: backend.state(first).state is JobState.RUNNING)
    _, second = jobs.submit("sleep 600", groups=everything, backend=backend)
    status = jobs.until(lambda: found if "(" in (found := backend.state(second)).reason else None)
    assert (status.state, status.reason) == (JobState.QUEUED, "waits for free nodes (Resources)")
    backend.kill(first, 0.0)
    jobs.until(lambda: backend.state(second).state is JobState.RUNNING)
    backend.kill(second, 0.0)


def test_a_queued_job_outlives_its_controller_and_hears_of_its_end(cluster, tmp_path, jobs):
    """It waits for longer than a start may take, and then begins as any other."""
    (reports := tmp_path / "reports").mkdir()
    (reports / "go").touch()
    options = ("-o", 'rm.slurm.sbatch=["--hold"]', "-o", "job.start_deadline_s=15")
    with ManagedJobs(tmp_path, "slurm", PROGRAM) as twister2:
        clients = [twister2("submit", "slurm", "-n", 1, *options, "program.py", reports) for _ in range(2)]
        twister2.until(lambda: len(held(jobs)) == 2 or None not in [client.poll() for client in clients])
        assert [client.poll() for client in clients] == [None, None], [twister2.finish(client) for client in clients]
        cluster("stop-controller")
        time.sleep(17)
        cluster("start", "3")
        assert [client.poll() for client in clients] == [None, None], [twister2.finish(client) for client in clients]
        runs, killed = held(jobs)
        (job,) = [job for job in twister2.jobs() if job in killed[1]]
        code, _, err = twister2.run("kill", job)
        assert code == 0, err
        twister2.until(lambda: [client.poll() for client in clients] != [None, None])
        subprocess.run(["scontrol", "release", runs[0]], check=True, timeout=60)
        ended = [twister2.finish(client) for client in clients]
    assert sorted(code for code, _, _ in ended) == [0, 5], ended


def held(jobs):
    """Number and comment of all jobs that wait."""
    return [(number, comment) for number, comment, state in jobs.shown("%i", "%k", "%T") if state == "PENDING"]
