"""A server that is away and a host that dies, on a Nomad of this test's own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from twister2_testkit.managed import ManagedJobs

until = ManagedJobs.until
pytestmark = [pytest.mark.needs_nomad, pytest.mark.faults, pytest.mark.timeout(400)]
SCRIPT = Path(__file__).parents[3] / "tests" / "clusters" / "nomad.sh"
PROGRAM = """
import os, pathlib, time

def main(env):
    where = os.environ["NOMAD_ALLOC_DIR"]
    pathlib.Path(env.args[0], f"{env.attempt}-{env.worker_id}").write_text(where)
    while not pathlib.Path(env.args[0], "go").exists():
        time.sleep(0.1)
    print("went on", flush=True)
"""


@pytest.fixture
def own(tmp_path):
    """Runs the script for a cluster below /tmp: paths of sockets are short."""
    home = f"/tmp/t2-nomad-{os.getpid()}"
    environment = {**os.environ, "TWISTER2_NOMAD_HOME": home, "TWISTER2__JOB__STATE_DIR": str(tmp_path / "state")}

    def run(*arguments):
        done = subprocess.run(
            [str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        run("start", "2")
        environment.update(re.findall(r"(\w+)=(\S+)", run("env")))
        yield run, environment
    finally:
        run("clean")


@contextlib.contextmanager
def submitted(environment, tmp_path, *options):
    """A job of two workers that have begun, and where they report; behind the block they are let go, and end."""
    (tmp_path / "program.py").write_text(PROGRAM)
    reports = tmp_path / "reports"
    reports.mkdir()
    command = [sys.executable, "-m", "twister2.cli.main", "submit", "nomad", "-n", "2", *options, "program.py"]
    with subprocess.Popen(
        [*command, str(reports)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as job:
        try:
            until(lambda: len(list(reports.glob("1-*"))) == 2 or job.poll() is not None)
            assert job.poll() is None, job.communicate()
            yield job, reports
            (reports / "go").touch()
            out, err = job.communicate(timeout=120)
        finally:
            job.kill()
    assert job.returncode == 0, err
    assert out.count("went on") == 2


def host_of_the_master(environment):
    """The name of the node on which the one job master runs."""
    asked = urllib.request.Request(
        f"{environment['NOMAD_ADDR']}/v1/allocations", headers={"X-Nomad-Token": environment["NOMAD_TOKEN"]}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        (name,) = (each["NodeName"] for each in json.load(answer) if each["TaskGroup"] == "master")
    return name


def test_the_host_of_the_job_master_dies_and_the_next_life_of_it_takes_over(own, tmp_path):
    """Its note is with Nomad's server, and the package with a worker, or with the client that is there."""
    run, environment = own
    with submitted(environment, tmp_path, "-o", "job.start_deadline_s=60") as (job, reports):
        run("kill-node", host_of_the_master(environment))
        until(lambda: len(list(reports.glob("[2-9]-*"))) >= 2 or job.poll() is not None, 90)


def test_a_job_goes_on_without_the_server_and_after_the_death_of_a_host(own, tmp_path):
    run, environment = own
    with submitted(environment, tmp_path, "-o", "job.master=client") as (job, reports):
        run("kill-server")
        time.sleep(3)
        assert job.poll() is None, "the job ended with the server"
        run("start-server")
        folder = (reports / "1-0").read_text()
        dies = "n1" if "/n1/" in folder else "n2"
        run("kill-node", dies)
        until(lambda: list(reports.glob("[2-9]-0")) or job.poll() is not None, 90)
        assert job.poll() is None, job.communicate()
        until(lambda: len(list(reports.glob("[2-9]-*"))) >= 2, 90)


def end_copy(where):
    """Kill every process of the copy that has this folder, as an operator on its node might."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"NOMAD_ALLOC_DIR={where}".encode() in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)


@pytest.mark.parametrize("master", ["client", "allocation"])
def test_a_worker_that_dies_while_the_server_is_away_is_started_when_it_is_back(own, tmp_path, master):
    run, environment = own
    with submitted(environment, tmp_path, "-o", f"job.master={master}") as (job, reports):
        run("kill-server")
        end_copy((reports / "1-1").read_text())

        def tried():
            events = [path.read_text() for path in (tmp_path / "state").glob("jobs/*/events.jsonl")]
            return any("it is tried again" in text for text in events)

        until(lambda: tried() or job.poll() is not None, 90)
        assert job.poll() is None, job.communicate()
        run("start-server")
        until(lambda: len(list(reports.glob("2-*"))) == 2 or job.poll() is not None, 110)
        assert job.poll() is None, job.communicate()
