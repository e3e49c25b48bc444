"""Whole jobs on a real Nomad: client, master, workers, faults; and what Nomad itself still lists."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import re
import signal
import time
import urllib.error
import urllib.request

import pytest

from twister2_testkit.managed import MPI_PROGRAM, ManagedJobs

pytestmark = [pytest.mark.needs_nomad, pytest.mark.timeout(240)]
finish, until = ManagedJobs.finish, ManagedJobs.until


class Nomad:
    """The API as the one who may do everything."""

    def call(self, method, path, body=None, token=None):
        headers = {"X-Nomad-Token": token or os.environ["NOMAD_TOKEN"]}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(os.environ["NOMAD_ADDR"] + "/v1" + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.code} {error.read()[:300]!r}") from None
        return json.loads(text) if text.strip() else None

    def left_of(self, job_id):
        """What is still listed of a job: itself, variables, allocations that are not over."""
        name = f"twister2-{job_id}"
        jobs = [each["ID"] for each in self.call("GET", f"/jobs?namespace=*&prefix={name}")]
        variables = [each["Path"] for each in self.call("GET", f"/vars?namespace=*&prefix=nomad/jobs/{name}")]
        allocs = [each["ID"] for each in self.call("GET", "/allocations?namespace=*") if each["JobID"] == name]
        running = [each for each in allocs if self.call("GET", f"/allocation/{each}")["ClientStatus"] == "running"]
        return jobs + variables + running


@pytest.fixture
def nomad():
    return Nomad()


@pytest.fixture
def twister2(tmp_path):
    """Starts clients in a folder with a program; what still runs at the end is ended."""
    with ManagedJobs(tmp_path, "nomad") as jobs:
        yield jobs


def processes_of(job_id):
    """Processes of a job's allocations."""
    found = []
    mark = f"NOMAD_JOB_ID=twister2-{job_id}".encode()
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def none_left(job_id):
    """What was killed may be seen a moment longer."""
    until(lambda: not processes_of(job_id))


def processes_above(pid):
    """A user process, its fork server, its supervisor."""
    found = [pid]
    for _ in range(2):
        stat = pathlib.Path(f"/proc/{found[-1]}/stat").read_text()
        found.append(int(stat.rpartition(")")[2].split()[1]))
    return found


@pytest.mark.parametrize("master", ["allocation", "client"])
def test_hello(twister2, tmp_path, nomad, master):
    code, out, err = finish(twister2("submit", "nomad", "-n", 3, "-o", f"job.master={master}", "program.py"))
    assert code == 0, err
    assert sorted(out.splitlines()) == [f"hello from {worker} of 3" for worker in range(3)]
    job_id = twister2.job()
    none_left(job_id)
    assert nomad.left_of(job_id) == []


def test_a_workers_error_is_the_jobs(twister2, tmp_path, nomad):
    code, _, err = finish(twister2("submit", "nomad", "-n", 2, "program.py:fails"))
    assert code != 0
    assert "bad luck" in err
    assert "program.py" in err
    assert nomad.left_of(twister2.job()) == []


def test_a_lost_worker_is_replaced(twister2, tmp_path, nomad):
    reports = tmp_path / "reports"
    reports.mkdir()
    running = twister2("submit", "nomad", "-n", 2, "program.py:waits_once", reports)
    until(lambda: len(list(reports.glob("1-*"))) == 2 or running.poll() is not None)
    assert running.poll() is None, finish(running)
    os.kill(processes_above(int((reports / "1-1").read_text()))[-1], signal.SIGKILL)
    code, out, err = finish(running)
    assert code == 0, err
    assert out.count("attempt 2 done") == 2
    job_id = twister2.job()
    none_left(job_id)
    assert nomad.left_of(job_id) == []


def test_a_worker_that_nobody_has_room_for_is_waited_for_longer_than_a_start_may_take(twister2, tmp_path, nomad):
    """The master and the other worker have a node meanwhile."""
    big = ("-o", "job.memory_mb=20000")
    (reports := tmp_path / "reports").mkdir()
    first = twister2("submit", "nomad", "-n", 1, *big, "program.py:waits", reports)
    until(lambda: list(reports.glob("1-*")) or first.poll() is not None)
    assert first.poll() is None, finish(first)
    before = {*twister2.jobs()}
    second = twister2("submit", "nomad", "-n", 2, *big, "-o", "job.start_deadline_s=15", "program.py")
    waits = "1 of 2 workers wait: 1 of 3 copies have no node"

    def told():
        found = [finish(twister2("status", job))[1] for job in {*twister2.jobs()} - before]
        return any(waits in " ".join(text.split()) for text in found) or second.poll() is not None

    until(told)
    time.sleep(17)
    assert second.poll() is None, finish(second)
    (reports / "go").touch()
    code, out, err = finish(second)
    assert code == 0, err
    assert out.count("hello from") == 2
    assert finish(first)[0] == 0
    for job_id in twister2.jobs():
        assert nomad.left_of(job_id) == []


def test_killed_from_another_shell_when_the_client_is_gone(twister2, tmp_path, nomad):
    code, out, err = finish(twister2("submit", "nomad", "--detach", "-n", 2, "program.py:sleeps"))
    assert code == 0, err
    job_id = out.strip()
    until(lambda: "running" in finish(twister2("status", job_id))[1].lower())
    until(lambda: finish(twister2("logs", job_id))[1].count("asleep") == 2)
    assert len(processes_of(job_id)) > 4
    code, _, err = finish(twister2("kill", job_id))
    assert code == 0, err
    none_left(job_id)
    assert "killed" in finish(twister2("status", job_id))[1].lower()
    assert nomad.left_of(job_id) == []
    assert finish(twister2("kill", job_id))[0] == 0, "killing an ended job is a success"
    code, _, err = finish(twister2("kill", "nobody-knows-it"))
    assert code != 0
    assert "nobody-knows-it" in err


def test_the_walltime(twister2, tmp_path, nomad):
    code, _, err = finish(twister2("submit", "nomad", "-n", 1, "-o", "job.walltime_s=2", "program.py:sleeps"))
    assert code == 5, err
    assert "reached its time limit of 2 s" in err
    assert nomad.left_of(twister2.job()) == []


def test_a_detached_job_ends_by_itself_and_the_next_command_removes_it(twister2, tmp_path, nomad):
    code, out, err = finish(twister2("submit", "nomad", "--detach", "-n", 2, "program.py"))
    assert code == 0, err
    job_id = out.strip()
    until(lambda: nomad.call("GET", f"/job/twister2-{job_id}")["Status"] == "dead")
    left = nomad.left_of(job_id)
    assert len(left) == 2, f"more than the job and its note, without tickets and token: {left}"
    code, out, err = finish(twister2("list"))
    assert code == 0, err
    assert "completed" in out
    assert nomad.left_of(job_id) == []
    code, _, err = finish(twister2("wait", job_id))
    assert code == 0, err
    assert "hello from 1 of 2" in finish(twister2("logs", job_id))[1]
    assert finish(twister2("clean", job_id))[0] == 0
    assert nomad.left_of(job_id) == []


def test_somebody_stops_the_job_in_nomad(twister2, tmp_path, nomad):
    reports = tmp_path / "reports"
    reports.mkdir()
    running = twister2("submit", "nomad", "-n", 2, "program.py:waits", reports)
    until(lambda: len(list(reports.glob("1-*"))) == 2 or running.poll() is not None)
    job_id = twister2.job()
    nomad.call("DELETE", f"/job/twister2-{job_id}")
    code, _, err = finish(running)
    assert code != 0
    assert "T2-J40" in err, err
    none_left(job_id)
    assert nomad.left_of(job_id) == []


@pytest.mark.parametrize("master", ["allocation", "client"])
def test_scaled_up_and_down_from_another_shell(twister2, tmp_path, nomad, master):
    enough = tmp_path / "enough"
    options = ("-o", f"state.file.path={tmp_path / 'shared'}", "-o", f"job.master={master}")
    options += ("-o", "job.lost_after_s=60")  # nobody is taken for lost because the machine is busy
    running = twister2("submit", "nomad", "-n", 2, *options, "program.py:counts", enough)
    assert "attempt 1 of 2" in running.stdout.readline()
    job_id = twister2.job()
    for size in (3, 1):
        code, out, err = finish(twister2("scale", job_id, size))
        assert code == 0, (out, err)
        assert f"has {size} workers" in out
    until(lambda: "attempt 3 of 1" in finish(twister2("logs", job_id))[1])
    more_than_all_nodes = finish(twister2("scale", job_id, 100000))
    assert more_than_all_nodes[0] != 0
    assert "copies ask for" in more_than_all_nodes[2]
    code, out, err = finish(twister2("restart", job_id))
    assert code == 0, (out, err)
    assert "begins again from commit" in out
    enough.touch()
    code, out, err = finish(running)
    assert code == 0, err
    assert "attempt 2 of 3 True" in out
    assert "attempt 3 of 1 True" in out
    assert "attempt 4 of 1 True" in out
    none_left(job_id)
    assert nomad.left_of(job_id) == []


def test_workers_that_differ(twister2, nomad):
    groups = ("-o", "job.groups.big={count=1,memory_mb=300}", "-o", "job.groups.thin={count=2,memory_mb=200}")
    code, out, err = finish(twister2("submit", "nomad", "--detach", *groups, "program.py:groups"))
    assert code == 0, err
    job_id = out.strip()
    until(lambda: finish(twister2("logs", job_id))[1].count(" is ") == 3)
    told = re.findall(r"worker \d is \w+ with \d+", finish(twister2("logs", job_id))[1])
    assert sorted(told) == ["worker 0 is big with 300", "worker 1 is thin with 200", "worker 2 is thin with 200"]
    shown = nomad.call("GET", f"/job/twister2-{job_id}")["TaskGroups"]
    sizes = {each["Name"]: (each["Count"], each["Tasks"][0]["Resources"]["MemoryMB"]) for each in shown}
    assert (sizes["big"], sizes["thin"]) == ((1, 300), (2, 200))
    assert finish(twister2("kill", job_id))[0] == 0
    assert nomad.left_of(job_id) == []


@pytest.mark.needs_mpi
@pytest.mark.timeout(240)  # two jobs, four worlds
def test_mpi_without_mpirun_a_lost_worker_and_a_kill(twister2, tmp_path, nomad):
    (tmp_path / "mpi.py").write_text(MPI_PROGRAM)
    options = ("-n", 3, "-o", "job.comm=mpi")
    code, out, err = finish(twister2("submit", "nomad", *options, "mpi.py"))
    assert code == 0, err
    assert out.splitlines() == ["True 6.0 3 with 1 memories"] * 3
    assert nomad.left_of(twister2.job()) == []
    code, out, err = finish(twister2("submit", "nomad", "--detach", *options, "mpi.py:goes_on"))
    assert code == 0, err
    job_id = out.strip()
    until(lambda: finish(twister2("logs", job_id))[1].count("goes on") >= 3)
    os.kill(min(supervisors_of(job_id)), signal.SIGKILL)
    until(lambda: finish(twister2("logs", job_id))[1].count("goes on") >= 6)
    code, _, err = finish(twister2("kill", job_id))
    assert code == 0, err
    none_left(job_id)
    assert nomad.left_of(job_id) == []


def test_two_jobs_at_once_and_the_secrets_of_neither_show(twister2, tmp_path, nomad):
    reports = [tmp_path / "one", tmp_path / "two"]
    running = []
    for folder in reports:
        folder.mkdir()
        running.append(twister2("submit", "nomad", "-n", 2, "--name", "größe 数据 " * 30, "program.py:waits", folder))
    for folder in reports:
        until(lambda folder=folder: len(list(folder.glob("1-*"))) == 2)
    ids = [folder.name for folder in (tmp_path / "state" / "jobs").iterdir()]
    assert len(ids) == 2
    for job_id in ids:
        name = f"twister2-{job_id}"
        items = [nomad.call("GET", f"/var/nomad/jobs/{name}{path}")["Items"] for path in ("", "/master")]
        secrets = [base64.b64decode(value) for each in items for value in each.values()]
        keys = [json.loads(secrets[0])["join_key"].encode(), *secrets[1:]]
        assert len(keys) == 3
        shown = json.dumps(nomad.call("GET", f"/job/{name}")) + json.dumps(
            [nomad.call("GET", f"/allocation/{each['ID']}") for each in nomad.call("GET", f"/job/{name}/allocations")]
        )
        assert not [key for key in keys if key.decode() in shown]
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            for file in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    text = (path / file).read_bytes()
                    if f"NOMAD_JOB_ID={name}".encode() in text or name.encode() in text:
                        assert not [key for key in keys if key in text], path
    for folder in reports:
        (folder / "go").touch()
    assert [finish(each)[0] for each in running] == [0, 0]
    assert [nomad.left_of(job_id) for job_id in ids] == [[], []]


def kill_master(job_id, killed=()):
    """Kill those that were not killed before: one that is just ending still shows its command line."""
    masters = [
        pid for pid in processes_of(job_id) if pid not in killed and b"twister2.master" in cmdline(pid).split(b"\0")
    ]
    for pid in masters:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return masters


def supervisors_of(job_id):
    """Not what they have forked, which has their command line."""
    found = {pid for pid in processes_of(job_id) if b"twister2.worker" in cmdline(pid).split(b"\0")}
    supervisors = set()
    for pid in found:
        with contextlib.suppress(OSError):  # a fork that has gone meanwhile
            if processes_above(pid)[1] not in found:
                supervisors.add(pid)
    return supervisors


def test_a_master_that_dies_is_started_again_and_takes_its_workers_back(twister2, tmp_path, nomad):
    """The same ones, which wait for it as long as is promised (job.master_return_s as it is)."""
    enough, store = tmp_path / "enough", f"state.file.path={tmp_path}/store"
    running = twister2("submit", "nomad", "-n", 2, "-o", store, "program.py:counts", enough)
    lines = []

    def until_attempt(number):
        while f"attempt {number} of 2" not in (line := running.stdout.readline()):
            assert line, running.stderr.read()
        lines.append(line)

    until_attempt(1)
    job_id = twister2.job()
    supervisors = supervisors_of(job_id)
    assert kill_master(job_id)
    until_attempt(2)
    assert "True" in lines[-1], "it began at the start"
    assert supervisors_of(job_id) == supervisors
    assert finish(twister2("status", job_id))[0] == 0
    enough.touch()
    code, _, err = finish(running)
    assert code == 0, err
    none_left(job_id)
    assert nomad.left_of(job_id) == []


def test_a_master_that_dies_too_often_is_the_end_of_the_job(twister2, tmp_path, nomad):
    running = twister2("submit", "nomad", "-n", 2, "-o", "rm.nomad.master_restarts=1", "program.py:sleeps")
    killed = []
    for _ in range(2):
        while "asleep" not in (line := running.stdout.readline()):
            assert line, running.stderr.read()
        until(lambda: killed.extend(masters := kill_master(twister2.job(), killed)) or masters)
    code, _, err = finish(running)
    assert code != 0
    assert "the job master exited 137" in err
    job_id = twister2.job()
    none_left(job_id)
    assert nomad.left_of(job_id) == []


def cmdline(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
