"""A job master in the allocation that hangs, on the real servers: for all of them it runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from twister2_testkit.managed import ManagedJobs

pytestmark = [pytest.mark.timeout(240), pytest.mark.faults]

PROGRAM = """
import time

def main(env):
    print("attempt", env.attempt, "runs", flush=True)
    while env.attempt == 1:
        time.sleep(0.1)
    env.barrier("end")
    print("done", flush=True)
"""


def is_first(process):
    """Whether it is the first process of a PID namespace."""
    (ids,) = (line for line in (process / "status").read_text().splitlines() if line.startswith("NSpid:"))
    return ids.split()[-1] == "1"


def stop_master(job_id):
    """Stop its process, not the shell or srun that has started it; False when none runs."""
    stopped = False
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words, environment = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
            program, *arguments = words.split(b"\0")
            ours = b"python" in program and b"twister2.master" in arguments and job_id.encode() in environment
            if ours and not is_first(path):
                os.kill(int(path.name), signal.SIGSTOP)
                stopped = True
    return stopped


@pytest.mark.parametrize(
    ("manager", "own"),
    [
        pytest.param("slurm", "", marks=pytest.mark.needs_slurm),
        pytest.param("k8s", "", marks=pytest.mark.needs_k8s),
        pytest.param("k8s", "spec: {shareProcessNamespace: null}", marks=pytest.mark.needs_k8s, id="k8s-first-process"),
        pytest.param("nomad", "", marks=pytest.mark.needs_nomad),
    ],
)
def test_it_is_killed_and_its_next_life_takes_the_workers_back(request, tmp_path, manager, own):
    options = ["job.cpus=0.1", *(request.getfixturevalue("namespace").options if manager == "k8s" else ())]
    if own:
        (tmp_path / "pod.yaml").write_text(own)
        options.append("rm.k8s.pod_template=pod.yaml")
    with ManagedJobs(tmp_path, manager, PROGRAM) as jobs:
        client = jobs("submit", manager, "-n", 2, *(word for text in options for word in ("-o", text)), "program.py")
        for _ in range(2):
            while "attempt 1 runs" not in (line := client.stdout.readline()):
                assert line, client.stderr.read()
        assert stop_master(jobs.job())
        code, out, err = jobs.finish(client)
        assert code == 0, err
        assert out.count("done") == 2
        events = (jobs.state / "jobs" / jobs.job() / "events.jsonl").read_text().splitlines()
        assert [each["master"] for each in map(json.loads, events) if each["event"] == "master_returned"] == [2]
