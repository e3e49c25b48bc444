"""Whole jobs on a real Slurm: client, master in the allocation, workers, a new attempt."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
import zipfile

import pytest

from twister2_testkit.managed import PROGRAM, ManagedJobs

pytestmark = [pytest.mark.needs_slurm, pytest.mark.timeout(240)]

finish, until = ManagedJobs.finish, ManagedJobs.until

OWN = """
def ranks_again(env):
    waits_once(env)
    assert (env.mpi.Get_rank(), env.mpi.Get_size()) == (env.worker_id, env.n_workers)

def world(env):
    print("rank", env.mpi.Get_rank(), "of", env.mpi.Get_size(), "is", env.worker_id, flush=True)

def lives(env):
    turn = env.state("turn", 0)
    if env.worker_id == 0:
        print("begins", env.attempt, env.n_workers, turn.value > 0, os.environ.get("TWISTER2_RESTARTS"), flush=True)
    while not env.controller.exchange("enough", os.path.exists(env.args[0]))[0]:
        turn.value += 1
        env.commit()
        time.sleep(0.1)

def imports(env):
    import kit_shipped
    print(kit_shipped.VALUE, kit_shipped.__file__, flush=True)
"""


@pytest.fixture
def twister2(tmp_path):
    """Starts clients in a folder with a program; what still runs at the end is ended."""
    with ManagedJobs(tmp_path, "slurm", PROGRAM + OWN) as jobs:
        yield jobs


def last_job(tmp_path):
    (folder,) = (tmp_path / "state" / "jobs").iterdir()
    shown = ["squeue", "-h", "-t", "all", "-o", "%T|%k"]
    rows = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.splitlines()
    (state,) = [row.split("|")[0] for row in rows if f"twister2:{folder.name} " in row]
    return folder.name, state


def test_doctor(twister2, jobs):
    code, out, err = twister2.run("doctor", "slurm")
    assert code == 0, (out, err)
    assert {line.split()[0] for line in out.splitlines()} == {"ok", "skipped"}, out
    assert "ok       job of one worker: it ran on" in out
    assert "rm slurm" in out
    code, out, err = twister2.run("doctor", "slurm", "-o", "rm.slurm.partition=nosuch")
    assert code == 1, (out, err)
    assert "failed   partition: Slurm answers, but has no partition 'nosuch'" in out
    assert "try: choose one of those that 'sinfo -s' lists: rm.slurm.partition" in out
    assert "skipped  job of one worker: not sent" in out
    assert twister2.jobs() == []
    jobs.until(lambda: [row[0] for row in jobs.shown("%T", "%k") if str(twister2.state) in row[1]] == ["COMPLETED"])


def test_wheels_that_are_shipped_with_the_job(twister2, tmp_path):
    wheels, cache = tmp_path / "wheels", tmp_path / "cache"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "kit_shipped-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("kit_shipped.py", "VALUE = 42\n")
    twister2.environment["XDG_CACHE_HOME"] = str(cache)
    for nodes in (1, 2):
        options = ("-o", f"job.wheels={wheels}", "-o", f"rm.slurm.nodes={nodes}")
        code, out, err = twister2.run("submit", "slurm", "-n", 2, *options, "program.py:imports")
        assert code == 0, err
        assert out.count(f"42 {cache}/twister2/wheels/") == 2, out
    assert len(list((cache / "twister2" / "wheels").iterdir())) == 1


def processes_of(job_id):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TWISTER2_JOB={job_id}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def none_left(job_id):
    """What was killed may be seen a moment longer."""
    until(lambda: not processes_of(job_id))


@pytest.mark.parametrize("master", ["allocation", "client"])
def test_hello(twister2, tmp_path, master):
    code, out, err = finish(twister2("submit", "slurm", "-n", 3, "-o", f"job.master={master}", "program.py"))
    assert code == 0, err
    assert sorted(out.splitlines()) == [f"hello from {worker} of 3" for worker in range(3)]
    job_id, state = last_job(tmp_path)
    assert state == "COMPLETED"
    none_left(job_id)


def test_a_workers_error_is_the_jobs(twister2, tmp_path):
    code, _, err = finish(twister2("submit", "slurm", "-n", 2, "program.py:fails"))
    assert code != 0
    assert "bad luck" in err
    assert "program.py" in err
    none_left(last_job(tmp_path)[0])


@pytest.mark.parametrize("comm", ["tcp", pytest.param("mpi", marks=pytest.mark.needs_mpi)])
def test_a_lost_supervisor_is_replaced_in_the_same_allocation(twister2, tmp_path, comm):
    program = "ranks_again" if comm == "mpi" else "waits_once"
    running, _, reports = twister2.waiting("-o", f"job.comm={comm}", program=program)
    ancestors = [int((reports / "1-1").read_text())]
    for _ in range(2):  # user process, fork server, supervisor
        stat = pathlib.Path(f"/proc/{ancestors[-1]}/stat").read_text()
        ancestors.append(int(stat.rpartition(")")[2].split()[1]))
    os.kill(ancestors[-1], signal.SIGKILL)
    code, out, err = finish(running)
    assert code == 0, err
    assert out.count("attempt 2 done") == 2
    job_id, state = last_job(tmp_path)
    assert state == "COMPLETED"
    none_left(job_id)


@pytest.mark.needs_mpi
def test_ranks_are_worker_ids(twister2):
    code, out, err = finish(twister2("submit", "slurm", "-n", 4, "-o", "job.comm=mpi", "program.py:world"))
    assert code == 0, err
    assert sorted(out.splitlines()) == [f"rank {rank} of 4 is {rank}" for rank in range(4)]


def test_killed_from_another_shell_when_the_client_is_gone(twister2, tmp_path):
    code, out, err = finish(twister2("submit", "slurm", "--detach", "-n", 2, "program.py:sleeps"))
    assert code == 0, err
    job_id = out.strip()
    until(lambda: finish(twister2("logs", job_id))[1].count("asleep") == 2)
    assert len(processes_of(job_id)) > 4
    code, _, err = finish(twister2("kill", job_id))
    assert code == 0, err
    none_left(job_id)
    assert "killed" in finish(twister2("status", job_id))[1]


def test_the_longest_time_of_a_job_is_kept_by_its_master(twister2, tmp_path):
    """In order, and to the second: Slurm itself counts in minutes."""
    begun = time.monotonic()
    code, out, err = finish(twister2("submit", "slurm", "-n", 2, "-o", "job.walltime_s=20", "program.py:sleeps"))
    assert code == 5, err
    assert time.monotonic() - begun >= 20
    assert out.count("asleep") == 2
    assert "[T2-J405]" in err
    assert "reached its time limit of 20 s" in err
    none_left(last_job(tmp_path)[0])


def parts(job_id):
    """States of the jobs of Slurm that are part of a job."""
    shown = ["squeue", "-h", "-t", "all", "-o", "%i|%T|%k"]
    rows = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.splitlines()
    return {row.split("|")[0]: row.split("|")[1] for row in rows if f":{job_id} " in row}


def counting(twister2, tmp_path, *options):
    """A job that commits ten times a second until there is a file; its client, and its id once it has committed."""
    client = twister2("submit", "slurm", "-q", "-n", 2, *options, "program.py:lives", tmp_path / "enough")
    jobs = tmp_path / "state" / "jobs"
    until(lambda: (jobs.exists() and list(jobs.glob("*/events.jsonl"))) or client.poll() is not None)
    assert client.poll() is None, finish(client)
    (events,) = jobs.glob("*/events.jsonl")
    until(lambda: "checkpoint_committed" in events.read_text() or client.poll() is not None)
    assert client.poll() is None, finish(client)
    return client, events.parent.name


def test_more_and_fewer_workers(twister2, tmp_path):
    client, job_id = counting(twister2, tmp_path)
    code, out, err = finish(twister2("scale", job_id, 3), 90)
    assert code == 0, err
    assert "has 3 workers, attempt 2" in out
    assert len(parts(job_id)) == 2
    code, out, err = finish(twister2("scale", job_id, 5000, "--deadline", 20), 90)
    assert code == 1, out
    assert "may never start" in err
    code, out, err = finish(twister2("scale", job_id, 1), 90)
    assert "has 1 workers" in out, err
    code, out, err = finish(twister2("restart", job_id), 90)
    assert code == 0, (out, err)
    assert "begins again from commit" in out
    (tmp_path / "enough").touch()
    code, out, err = finish(client, 90)
    assert code == 0, err
    # A loaded machine may lose a worker in between, which is one attempt more.
    begun = dict.fromkeys(tuple(line.split()[2:4]) for line in out.splitlines() if line.startswith("begins"))
    assert list(begun) == [("2", "False"), ("3", "True"), ("1", "True")]
    until(lambda: not {"RUNNING", "PENDING", "COMPLETING"} & set(parts(job_id).values()))
    none_left(job_id)


def test_a_grown_job_is_killed_from_another_shell(twister2, tmp_path):
    client, job_id = counting(twister2, tmp_path)
    assert finish(twister2("scale", job_id, 4), 90)[0] == 0
    code, _, err = finish(twister2("kill", job_id), 90)
    assert code == 0, err
    assert not {"RUNNING", "PENDING", "COMPLETING"} & set(parts(job_id).values())
    none_left(job_id)
    assert finish(client)[0] != 0


@pytest.mark.parametrize("by", ["its time", "an administrator"])
def test_a_job_that_goes_back_into_the_queue_goes_on_from_its_latest_commit(twister2, tmp_path, jobs, by):
    options = ["-o", "rm.slurm.requeue=true"]
    if by == "its time":
        # Each run is warned after 40 s: by then the first has committed, and the second has ended.
        options += ["-o", "job.walltime_s=100", "-o", "job.walltime_warn_s=60"]
    client, job_id = counting(twister2, tmp_path, *options)
    (number,) = parts(job_id)
    if by == "an administrator":
        subprocess.run(["scontrol", "requeue", number], check=True, timeout=60)
    jobs.hurry(number)
    events = tmp_path / "state" / "jobs" / job_id / "events.jsonl"
    until(lambda: events.read_text().count('"attempt_started"') == 2 or client.poll() is not None, 90)
    (tmp_path / "enough").touch()
    code, out, err = finish(client, 90)
    assert code == 0, (out, err)
    # The number of the second attempt is 3 where the master saw the workers go before it was told to end itself.
    # What was said before the client had found the new master is in the logs only.
    begun = [line.split()[-3:] for line in finish(twister2("logs", job_id))[1].splitlines() if "begins" in line]
    assert begun == [["2", "False", "0"], ["2", "True", "1"]]
    assert list(parts(job_id).values()) == ["COMPLETED"]
    none_left(job_id)


def pythons_of(job_id, module):
    """Processes of a job that run one of its modules, forks of theirs included; the srun that starts them is none."""
    found = []
    for pid in processes_of(job_id):
        with contextlib.suppress(OSError):  # it has gone meanwhile
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"python" in words[0] and module in words:
                found.append(pid)
    return found


def supervisors_of(job_id):
    workers, parents = pythons_of(job_id, b"twister2.worker"), {}
    for pid in workers:
        with contextlib.suppress(OSError):
            parents[pid] = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    return {pid for pid, parent in parents.items() if int(parent) not in workers}


def test_a_master_that_was_killed_takes_its_workers_back(twister2, tmp_path):
    """The same ones, which wait for it as long as is promised (job.master_return_s as it is)."""
    client, job_id = counting(twister2, tmp_path)
    supervisors = supervisors_of(job_id)
    assert len(supervisors) == 2
    (master,) = pythons_of(job_id, b"twister2.master")
    os.kill(master, signal.SIGKILL)
    events = tmp_path / "state" / "jobs" / job_id / "events.jsonl"
    until(lambda: events.read_text().count('"attempt_started"') == 2 or client.poll() is not None, 90)
    assert supervisors_of(job_id) == supervisors
    (tmp_path / "enough").touch()
    code, out, err = finish(client, 90)
    assert code == 0, (out, err)
    assert '"master_returned"' in events.read_text()
    begun = [line.split()[-4:-1] for line in finish(twister2("logs", job_id))[1].splitlines() if "begins" in line]
    assert begun == [["1", "2", "False"], ["2", "2", "True"]]
    none_left(job_id)


@pytest.mark.parametrize("how", [(), ("--detach",)])
def test_a_process_world_that_srun_refuses_is_a_failure_at_once(twister2, how):
    begun = time.monotonic()
    options = ("-n", "2", "-o", "job.comm=mpi", "-o", "rm.slurm.mpi=nonsense", *how)
    client = twister2("submit", "slurm", *options, "program.py")
    out, err = client.communicate(timeout=100)
    if how:
        ended = twister2("wait", out.strip())
        ended.communicate(timeout=100)
        assert ended.returncode != 0
        out, err = twister2("status", out.strip()).communicate(timeout=100)
    else:
        assert client.returncode != 0
    assert time.monotonic() - begun < 80, err  # the deadline for workers to join is two minutes
    assert "rm.slurm.mpi" in out + err, (out, err)
    assert "--mpi" in out + err, (out, err)
    assert "Invalid MPI type 'nonsense'" in out + err, (out, err)
