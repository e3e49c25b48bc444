"""Jobs that are submitted to a Mesos, the Mesos itself, and what it and the host still know of a job."""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import subprocess
import urllib.request

import pytest

from twister2_testkit.managed import ManagedJobs

SCRIPT = pathlib.Path(__file__).parents[3] / "tests" / "clusters" / "mesos.sh"


@pytest.fixture
def twister2(tmp_path):
    """A shell; what still runs at the end is ended."""
    with ManagedJobs(tmp_path, "mesos") as jobs:
        yield jobs


class Mesos:
    """What the operator's API and this host still know; of the Mesos that the environment names."""

    def operate(self, kind, **parts):
        body = json.dumps({"type": kind, **parts}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(os.environ["TWISTER2_MESOS_MASTER"] + "/api/v1", body, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"{}")

    def left_of(self, job_id):
        """Frameworks of a job that have not ended, and processes that carry its name."""
        known = self.operate("GET_FRAMEWORKS")["get_frameworks"].get("frameworks", ())
        return [each for each in known if job_id in json.dumps(each["framework_info"])] + self.processes(job_id)

    def nothing_left_of(self, job_id):
        """Within a while: what was killed may be seen a moment longer."""
        ManagedJobs.until(lambda: not self.left_of(job_id), 30)

    def processes(self, job_id, word=b""):
        """Processes with a job's id in their command line or environment."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                text = (path / "cmdline").read_bytes()
                if word in text and job_id.encode() in text + (path / "environ").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def above(self, pid, n):
        """A process and the ``n`` above it: a user process, its fork server, its supervisor, its copy, the executor."""
        found = [pid]
        for _ in range(n):
            stat = pathlib.Path(f"/proc/{found[-1]}/stat").read_text()
            found.append(int(stat.rpartition(")")[2].split()[1]))
        return found


@pytest.fixture
def mesos():
    return Mesos()


@pytest.fixture
def own_mesos(monkeypatch):
    """A Mesos of the test's own, for what others would suffer from; runs the script for it."""
    monkeypatch.setenv("TWISTER2_MESOS_HOME", f"/tmp/t2-mesos-{os.getpid()}")

    def run(*arguments, **changes):
        done = subprocess.run(
            [str(SCRIPT), *arguments],
            env={**os.environ, **changes},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if arguments[0] == "start":
            for name, value in (word.split("=", 1) for word in shlex.split(run("env")) if "=" in word):
                monkeypatch.setenv(name, value)
        return done.stdout

    yield run
    run("clean")
