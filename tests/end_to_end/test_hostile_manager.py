"""Whole jobs under a manager that is as unfriendly as Kubernetes: the master in the allocation, no shared files."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import carrying, wait_until

QUICK = ("-q", "-o", "job.heartbeat_s=0.25", "-o", "job.lost_after_s=5", "-o", "job.master_lost_s=6")


@pytest.mark.parametrize("seed", range(3))
def test_hello(jobs: Jobs, seed: int) -> None:
    program = jobs.program(
        """
        def main(env):
            env.barrier()
            print("hello", env.worker_id, env.args, flush=True)
            env.log.info("logged")
        """
    )
    done = jobs.submit(program, *QUICK, "-o", f"rm.hostile.seed={seed}", profile="hostile", workers=3, args=["a b"])
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == [f"hello {worker} ['a b']" for worker in range(3)]
    assert done.err.count("logged") == 3
    assert "hello 2" in (jobs.job() / "logs" / "worker-2.log").read_text()
    assert jobs.cli("status", "last", "--json").out.count('"completed"') == 1


def test_words_are_counted(jobs: Jobs) -> None:
    text = "the cat the dog a cat and the end " * 500
    (jobs.folder / "words.txt").write_text(text)
    jobs.program("def split(line):\n    return line.split()\n", "helper.py")
    program = jobs.program(
        """
        import operator, pathlib, sys
        import helper
        from twister2_net import gather, keyed_reduce
        def main(env):
            words = helper.split((pathlib.Path(sys.path[0]) / "words.txt").read_text())
            mine = [(word, 1) for word in words[env.worker_id :: env.n_workers]]
            counts = dict(keyed_reduce(env, mine, operator.add))
            everybody = gather(env, counts)
            if env.worker_id == 0:
                print(sorted((w, c) for part in everybody for w, c in part.items()))
        """
    )
    options = ("-o", "job.files=words.txt", "-o", "comm.tcp.same_host=tcp")
    done = jobs.submit(program, *QUICK, *options, profile="hostile", workers=3)
    assert (done.code, done.out) == (0, f"{sorted(collections.Counter(text.split()).items())}\n"), done


def test_a_crash_is_a_new_attempt_from_the_last_commit(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import os, signal
        def main(env):
            count = env.state("count", 0)
            mine = env.state("mine", 0, scope="worker")
            while count.value < 4:
                count.value += 1
                mine.value += env.worker_id
                env.commit()
                if count.value == 2 and env.worker_id == 1 and env.attempt == 1:
                    os.kill(os.getppid() if env.args else os.getpid(), signal.SIGKILL)
                env.barrier()
            print(env.attempt, env.worker_id, count.value, mine.value, flush=True)
        """
    )
    for args in ((), ("fork server",)):
        done = jobs.submit(program, *QUICK, profile="hostile", workers=3, args=args)
        assert done.code == 0, (args, done)
        assert sorted(done.out.splitlines()) == [f"2 {worker} 4 {4 * worker}" for worker in range(3)], (args, done)


def test_a_full_cluster_is_waited_for_longer_than_a_start_may_take(jobs: Jobs) -> None:
    """In the beginning by the client, and for another attempt by the master."""
    program = jobs.program(
        """
        import os, signal
        def main(env):
            if env.attempt == 1 and env.worker_id == 1:
                os.kill(os.getppid(), signal.SIGKILL)
            env.barrier()
        """
    )
    options = ("-o", "rm.hostile.earliest_s=17", "-o", "rm.hostile.twice=0", "-o", "job.start_deadline_s=15")
    done = jobs.submit(program, *QUICK, *options, profile="hostile")
    assert done.code == 0, done
    reasons = [(event["state"], event["reason"]) for event in jobs.events("state")]
    waits = "1 of 2 workers wait for a node (Unschedulable)"
    assert ("restarting", f"attempt 2 of 3: worker 1 was lost; {waits}") in reasons, reasons


def test_an_error_of_the_program(jobs: Jobs) -> None:
    program = jobs.program("def main(env):\n    env.barrier()\n    raise ValueError('on purpose')\n")
    done = jobs.submit(program, *QUICK, profile="hostile")
    assert done.code == 1, done
    assert "ValueError: on purpose" in done.err
    assert f"{program}:3 in main" in done.err
    assert done.err.count("[T2-") == 1


def test_results_come_back(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import twister2
        if __name__ == "__main__":
            print(twister2.run(lambda env: env.worker_id * 10, workers=2, profile="hostile"))
        """
    )
    done = jobs.python(program)
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == "[0, 10]"


def nothing_carries(job: str) -> None:
    """What was killed may be seen a moment longer."""
    wait_until(lambda: not carrying(job), 30, lambda: f"processes of {job} are left: {carrying(job)}")


FOR_EVER = """
    import time
    def main(env):
        print("begun", env.worker_id, flush=True)
        while True:
            time.sleep(0.05)
            env.barrier()
"""


def test_ctrl_c(jobs: Jobs) -> None:
    client = jobs.start("submit", "hostile", *QUICK, jobs.program(FOR_EVER))
    wait_until(lambda: bool(list(jobs.state.glob("jobs/*/logs/worker-1.log"))), 60, lambda: "no worker began")
    client.signal(signal.SIGINT)
    done = client.finish()
    assert done.code == 130, done
    nothing_carries(jobs.job().name)


def test_detached_then_killed_from_another_shell(jobs: Jobs) -> None:
    done = jobs.start("submit", "hostile", "--detach", *QUICK, jobs.program(FOR_EVER)).finish()
    assert done.code == 0, done
    job = done.out.strip()
    wait_until(
        lambda: (
            '"state": "running"' in jobs.cli("status", job, "--json").out
            and jobs.cli("status", job, "--json").out.count('"joined"') == 2
        ),
        60,
        lambda: f"it never runs: {jobs.cli('status', job, '--json')} {jobs.cli('logs', '--manager', job)}",
    )
    killed = jobs.cli("kill", job)
    assert killed.code == 0, killed
    assert '"state": "killed"' in jobs.cli("status", job, "--json").out
    nothing_carries(job)


def test_a_killed_master_ends_the_job(jobs: Jobs) -> None:
    client = jobs.start("submit", "hostile", *QUICK, jobs.program(FOR_EVER))
    wait_until(lambda: bool(list(jobs.state.glob("jobs/*/logs/worker-1.log"))), 60, lambda: "no worker began")
    (folder,) = jobs.folders()
    masters = []
    for pid in carrying(folder.name):
        with contextlib.suppress(OSError):  # it has gone meanwhile
            masters += [pid] * (b"twister2.master" in Path(f"/proc/{pid}/cmdline").read_bytes())
    assert len(masters) == 1
    os.kill(masters[0], signal.SIGKILL)
    done = client.finish()
    assert done.code == 1, done
    assert "master" in done.err
    nothing_carries(folder.name)


@pytest.mark.parametrize("how", [(), ("--detach",)])
def test_the_whole_text_of_a_long_error_is_in_the_log_though_the_masters_files_are_its_own(
    jobs: Jobs, how: tuple[str, ...]
) -> None:
    program = jobs.program(
        """
        def main(env):
            if env.worker_id == 1:
                raise ValueError("begin" + "y" * 200_000 + "end")
            env.barrier()
        """
    )
    done = jobs.cli("submit", "hostile", "-n", "2", *QUICK, *how, program)
    if how:
        done = jobs.cli("wait", done.out.strip())
    assert done.code == 1, done
    assert "ValueError: beginy" in done.out + done.err, done
    assert len(done.out + done.err) < 60_000, "it is for the log alone"
    assert "begin" + "y" * 200_000 + "end" in jobs.cli("logs", "last", "-w", "1").out.replace("\n", "")


@pytest.mark.parametrize(("body", "state"), [("pass", "completed"), ("raise ValueError('x')", "failed")])
def test_a_detached_job_whose_end_nobody_saw(jobs: Jobs, body: str, state: str) -> None:
    program = jobs.program(f"def main(env):\n    env.barrier()\n    {body}\n")
    done = jobs.start("submit", "hostile", "--detach", *QUICK, program).finish()
    assert done.code == 0, done
    job = done.out.strip()
    waited = jobs.cli("wait", job, "--timeout", "40")
    assert waited.code == (0 if state == "completed" else 1), waited
    assert f"{job}  {state}" in waited.out, waited


def test_logs_and_error_of_a_detached_job_outlive_its_pods(jobs: Jobs) -> None:
    """The manager keeps what the master says, and whoever asks for the end has it in the job's own folder."""
    program = jobs.program(
        """
        import os, time
        def main(env):
            print("begun", env.worker_id, flush=True)
            env.barrier()
            time.sleep(3)
            print("no end", end="", flush=True)
            time.sleep(0.5)
            if env.worker_id == 1:
                raise ValueError("on purpose")
            env.barrier()
        """
    )
    done = jobs.start("submit", "hostile", "--detach", *QUICK, program).finish()
    assert done.code == 0, done
    job = done.out.strip()
    wait_until(
        lambda: "worker-1 | begun 1" in jobs.cli("logs", job).out,
        60,
        lambda: f"{jobs.cli('logs', job)} {jobs.cli('logs', '--manager', job)}",
    )
    followed = jobs.start("logs", "-f", "-w", "0", job).finish()
    assert followed.out.splitlines()[0] == "begun 0", followed
    waited = jobs.cli("wait", job, "--timeout", "40")
    assert waited.code == 1, waited
    assert "ValueError: on purpose" in waited.out + waited.err
    nothing_carries(job)
    assert (jobs.job() / "logs" / "worker-1.log").read_text().splitlines() == ["begun 1", "no end"]
    assert "worker-0 | no end" in jobs.cli("logs", job).out
    assert jobs.events("job_ended")[0]["state"] == "failed"


def test_the_store_itself_is_out_of_reach_of_workers_and_says_so(jobs: Jobs) -> None:
    done = jobs.submit(jobs.program("def main(env):\n    env.backend('state')\n"), *QUICK, profile="hostile", workers=1)
    assert done.code == 2, done
    assert "this worker does not see the state store" in done.err
    assert "env.commit" in done.err


@pytest.mark.needs_mpi
def test_mpi_between_pods_of_one_node(jobs: Jobs) -> None:
    """They have one kernel, but not one shared memory: MPI must take them for hosts."""
    program = jobs.program(
        """
        import numpy
        from twister2_net import allreduce
        def main(env):
            assert len({(worker.node.boot_id, worker.node.memory) for worker in env.controller.workers()}) == 3
            assert (allreduce(env, numpy.full(200_000, env.worker_id)) == 3).all()
            print(env.mpi.rank == env.worker_id)
        """
    )
    done = jobs.submit(program, *QUICK, "-o", "job.comm=mpi", "-o", "rm.hostile.twice=0", profile="hostile", workers=3)
    assert (done.code, done.out) == (0, "True\n" * 3), done


def listens_at(pid: int) -> set[str]:
    """The addresses at which a process listens for TCP, as the kernel writes them (hexadecimal, least byte first)."""
    own = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            own.add(os.readlink(path).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in own:
                found.add(words[1].partition(":")[0])
    return found


def test_nobody_has_to_dial_the_client(jobs: Jobs) -> None:
    """It listens at no address but loopback, where the way to its job master begins."""
    program = jobs.program(
        """
        import pathlib, sys, time
        def main(env):
            env.barrier()
            if env.worker_id == 0:
                pathlib.Path(env.args[0], "running").touch()
            until = time.monotonic() + 60
            while not pathlib.Path(env.args[0], "looked").exists() and time.monotonic() < until:
                time.sleep(0.02)
            env.barrier()
        """
    )
    client = jobs.start("submit", "hostile", "-n", "2", *QUICK, program, jobs.folder)
    jobs.until_file("running")
    found = listens_at(client.process.pid)
    (jobs.folder / "looked").touch()
    done = client.finish(60)
    assert done.code == 0, done
    assert found == {"0100007F"}, "of 127.0.0.1, the forwarder's"


@pytest.mark.parametrize("profile", ["hostile", "standalone"])
def test_the_record_of_a_job_that_outlives_a_power_cut_of_the_client_does_so_too(jobs: Jobs, profile: str) -> None:
    """A job on the client's own host does not, and is not kept waiting for the disk."""
    client = jobs.program(
        """
        import os, sys
        from twister2.cli.main import main

        sync = os.fsync
        def told(number):
            print("synced", os.readlink(f"/proc/self/fd/{number}"), flush=True)
            sync(number)
        os.fsync = told
        sys.exit(main(sys.argv[1:]))
        """,
        "client.py",
    )
    done = jobs.python(client, "submit", profile, "-n", "1", *QUICK, jobs.program("def main(env): pass\n"))
    assert done.code == 0, done
    synced = [line.removeprefix("synced ") for line in done.out.splitlines()]
    folder = jobs.job()
    files = [line for line in synced if line.startswith(f"{folder}/record.json.")]
    assert (len(files), synced[1:]) == ((1, [str(folder), str(folder.parent)]) if profile == "hostile" else (0, [])), (
        done
    )
