"""Processes of a job that are killed or stopped: the right error or the right answer, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import time

import pytest

from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import wait_until
from twister2_testkit.segments import stand_in

pytestmark = pytest.mark.faults

QUICK = ("-o", "job.heartbeat_s=0.25", "-o", "job.lost_after_s=5", "-o", "job.master_lost_s=6")
"""Soon enough for tests, and so late that a busy machine loses nobody by itself."""

WAITS = """
    import os, pathlib, time

    def main(env):
        env.barrier()
        mine = pathlib.Path(f"ready-{env.attempt}-{env.worker_id}")
        mine.with_suffix(".new").write_text(str(os.getpid()))
        mine.with_suffix(".new").rename(mine)
        if env.attempt <= int(env.args[0]):
            while True:
                time.sleep(0.05)
                env.barrier()
        env.barrier()
        print("attempt", env.attempt, "worker", env.worker_id)
"""

COMMITS = """
    def main(env):
        value = env.state("v", b"")
        while True:
            value.value = bytes(1000)
            env.commit()
"""


def user(jobs: Jobs, attempt: int = 1, worker: int = 1) -> int:
    return int(jobs.until_file(f"ready-{attempt}-{worker}"))


def checkpoints(jobs: Jobs) -> list[pathlib.Path]:
    return [path for path in jobs.state.rglob("checkpoints/**/*") if path.is_file()]


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rsplit(b")", 1)[1].split()[1])


def test_a_killed_user_process_is_a_new_attempt(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-n", "3", *QUICK, jobs.program(WAITS), "1")
    os.kill(user(jobs), signal.SIGKILL)
    done = client.finish()
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == [f"attempt 2 worker {worker}" for worker in range(3)]
    assert [event["attempt"] for event in jobs.events("attempt_started")] == [1, 2]
    (abort,) = jobs.events("abort")
    details = abort["error"]["details"]
    assert "step 1, barrier at " in details.pop("standing")
    assert details == {"worker": 1, "code": -9, "tail": []}


def test_attempts_are_exhausted(jobs: Jobs) -> None:
    program = jobs.program(WAITS)
    client = jobs.start("submit", "standalone", "-n", "2", *QUICK, "-o", "job.attempts=2", program, "9")
    os.kill(user(jobs, 1), signal.SIGKILL)
    os.kill(user(jobs, 2), signal.SIGKILL)
    done = client.finish()
    assert done.code == 1, done
    assert "[T2-J402] worker 1 ended by itself with signal SIGKILL" in done.err
    assert "2 attempts were made, the last ended so (job.attempts = 2)" in done.err
    assert len(jobs.events("attempt_started")) == 2


@pytest.mark.parametrize("role", ["supervisor", "forkserver"])
def test_a_killed_supervisor_or_fork_server_is_a_new_attempt(jobs: Jobs, role: str) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", *QUICK, jobs.program(WAITS), "1")
    server = parent(user(jobs))
    victim = server if role == "forkserver" else parent(server)
    os.kill(victim, signal.SIGKILL)
    done = client.finish()
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["attempt 2 worker 0", "attempt 2 worker 1"]
    assert [event["worker"] for event in jobs.events("worker_lost")] == [1]


def test_the_only_supervisor_killed_is_a_new_attempt(jobs: Jobs) -> None:
    """The resource manager finds the whole job ended then, until the copies of the next attempt run."""
    client = jobs.start("submit", "standalone", "-n", "1", *QUICK, jobs.program(WAITS), "1")
    os.kill(parent(parent(user(jobs, worker=0))), signal.SIGKILL)
    done = client.finish()
    assert (done.code, done.out.splitlines()) == (0, ["attempt 2 worker 0"]), done
    assert [event["worker"] for event in jobs.events("worker_lost")] == [0]


def test_a_stopped_user_process_is_slow_and_the_answer_is_right(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import os, pathlib
        from twister2_net import allreduce
        def main(env):
            total = 0
            for turn in range(400):
                if turn == 20:
                    pathlib.Path("ready-1-%d.new" % env.worker_id).write_text(str(os.getpid()))
                    pathlib.Path("ready-1-%d.new" % env.worker_id).rename("ready-1-%d" % env.worker_id)
                total += allreduce(env, turn)
                if turn % 100 == 50:
                    env.barrier()
            print(total)
        """
    )
    client = jobs.start("submit", "standalone", "-n", "2", *QUICK, program)
    pid = user(jobs)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(7)
    assert client.process.poll() is None, client.finish()
    os.kill(pid, signal.SIGCONT)
    done = client.finish()
    assert (done.code, done.out) == (0, f"{sum(range(400)) * 2}\n" * 2), done
    assert len(jobs.events("attempt_started")) == 1


@pytest.mark.parametrize(
    "hold",
    [
        "import ctypes; ctypes.PyDLL(None).sleep(7)",
        "import time; end = time.time() + 7\n        while time.time() < end: pow(7, 300_000)",
    ],
    ids=["in C", "in Python"],
)
def test_a_worker_that_holds_the_interpreter_is_alive(jobs: Jobs, hold: str) -> None:
    source = f"""
    def main(env):
        if env.worker_id == 1:
            {hold.replace(chr(10) + "        ", chr(10) + "            ")}
        env.barrier()
        print("done", env.worker_id)
"""
    done = jobs.submit(jobs.program(source), *QUICK)
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["done 0", "done 1"]
    assert not jobs.events("worker_lost")
    assert len(jobs.events("attempt_started")) == 1


def test_a_stopped_supervisor_is_lost_and_does_not_go_on_when_it_wakes(jobs: Jobs) -> None:
    program = jobs.program(WAITS)
    client = jobs.start("submit", "standalone", "-n", "2", *QUICK, program, "1")
    first = user(jobs)
    supervisor = parent(parent(first))
    os.kill(supervisor, signal.SIGSTOP)
    second = user(jobs, 2)
    with contextlib.suppress(ProcessLookupError):  # where the manager reaches it, it is ended before it can wake
        os.kill(supervisor, signal.SIGCONT)
    done = client.finish()
    assert done.code == 0, done
    assert second != first
    assert [event["worker"] for event in jobs.events("worker_lost")] == [1]
    assert sorted(done.out.splitlines()) == ["attempt 2 worker 0", "attempt 2 worker 1"]
    assert len(jobs.events("attempt_started")) == 2


def test_a_killed_client_takes_the_job_with_it(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", *QUICK, jobs.program(WAITS), "9")
    user(jobs)
    client.signal(signal.SIGKILL)
    client.finish()
    ended = jobs.until_event("job_ended")
    assert ended["state"] == "killed"
    assert "client" in ended["error"]["why"]


def test_a_killed_master_ends_the_job(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", *QUICK, jobs.program(WAITS), "9")
    user(jobs)
    (master,) = jobs.pids("master")
    os.kill(master, signal.SIGKILL)
    done = client.finish()
    assert done.code == 1, done
    assert "[T2-J404] the job master ended before the job did" in done.err
    assert "SIGKILL" in done.err
    assert jobs.events("job_ended")[-1]["state"] == "failed"
    facts = jobs.cli("status", "last", "--json")
    assert '"state": "failed"' in facts.out, facts


def test_a_killed_master_and_client_together(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", *QUICK, jobs.program(WAITS), "9")
    user(jobs)
    (master,) = jobs.pids("master")
    client.signal(signal.SIGSTOP)
    os.kill(master, signal.SIGKILL)
    client.signal(signal.SIGKILL)
    client.finish()
    wait_until(lambda: not jobs.processes(), 60, lambda: f"left after the master's end: {jobs.processes()}")
    assert '"state": "failed"' in jobs.cli("status", "last", "--json").out
    assert jobs.cli("kill", "last").code == 0
    assert jobs.cli("clean", "last").code == 0


def test_a_worker_that_cannot_reach_the_master_says_so(jobs: Jobs) -> None:
    from twister2.control.ticket import Ticket, curve_pair

    ticket = jobs.folder / "ticket"
    ticket.write_bytes(Ticket("job-1", 1, ("tcp://127.0.0.1:1",), curve_pair()[0], "key").encode())
    environment = {"TWISTER2_TICKET": str(ticket), "TWISTER2_SLOT": "0", "TWISTER2_START_DEADLINE_S": "1.5"}
    done = jobs.start_python("-m", "twister2.worker", env=environment).finish()
    assert done.code == 1, done
    assert "[T2-J404]" in done.err
    assert "tcp://127.0.0.1:1" in done.err


def test_a_worker_that_is_ended_while_it_waits_for_the_master_says_so(jobs: Jobs) -> None:
    """As those of a job that does not wait for them any longer: their log is all that tells why they did not come."""
    from twister2.control.ticket import Ticket, curve_pair

    with socket.create_server(("127.0.0.1", 0)) as master:
        address = f"tcp://127.0.0.1:{master.getsockname()[1]}"
        ticket = jobs.folder / "ticket"
        ticket.write_bytes(Ticket("job-1", 1, (address,), curve_pair()[0], "key").encode())
        environment = {"TWISTER2_TICKET": str(ticket), "TWISTER2_SLOT": "7"}
        worker = jobs.start_python("-m", "twister2.worker", env=environment)
        wait_until(
            lambda: worker.process.poll() is not None or bool(select.select([master], [], [], 0)[0]),
            60,
            lambda: "it does not dial",
        )
        assert worker.process.poll() is None, worker.finish()
        worker.signal(signal.SIGTERM)
        done = worker.finish()
    assert done.code == 128 + signal.SIGTERM, done
    assert done.err == f"twister2 worker, slot 7: ended while it waited for an answer of the job master at {address}\n"


ELSEWHERE = """
    import sys
    import twister2.client.prepare as prepare
    from twister2.cli.main import main

    # what the copies run in place of the supervisor: the same, which finds nobody where the ticket sends it
    code = '''if True:
        import os, attrs
        from twister2.control.ticket import Ticket
        from twister2.worker.supervisor import main
        decode = Ticket.decode
        Ticket.decode = lambda data: attrs.evolve(decode(data), addresses=("tcp://127.0.0.1:1",))
        os.environ["TWISTER2_START_DEADLINE_S"] = "1"
        main()
    '''
    prepare.WORKER_COMMAND = (sys.executable, "-c", code)
    sys.exit(main(sys.argv[1:]))
"""


def test_a_job_whose_workers_cannot_reach_the_master(jobs: Jobs) -> None:
    program, client = jobs.program(WAITS), jobs.program(ELSEWHERE, "client.py")
    done = jobs.python(client, "submit", "standalone", "-q", "-n", "2", "-o", "job.attempts=2", program, "0")
    assert done.code == 1, done
    assert done.err.count("[T2-") == 1, done
    assert re.search(r"\[T2-J400\] worker [01] ended before it could join", done.err), done
    assert "twister2 logs JOB --manager" in done.err, done
    told = jobs.cli("logs", "last", "--manager")
    assert "[T2-J404] the job master did not answer" in told.out, told
    assert "nothing came from tcp://127.0.0.1:1" in told.out, told
    assert [event["state"] for event in jobs.events("job_ended")] == ["failed"]
    assert not jobs.events("attempt_started")


def test_a_worker_without_a_ticket_says_so(jobs: Jobs) -> None:
    environment = {"TWISTER2_TICKET": "/nowhere/ticket", "TWISTER2_SLOT": "0", "TWISTER2_START_DEADLINE_S": "0.5"}
    done = jobs.start_python("-m", "twister2.worker", env=environment).finish()
    assert done.code == 1, done
    assert "[T2-J408]" in done.err
    assert "/nowhere/ticket" in done.err


@pytest.mark.parametrize("victim", ["master", "client and master"])
def test_checkpoints_do_not_outlive_a_killed_master(jobs: Jobs, victim: str) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", *QUICK, jobs.program(COMMITS))
    jobs.until_event("checkpoint_committed", count=3)
    (master,) = jobs.pids("master")
    if victim != "master":
        client.signal(signal.SIGKILL)
    os.kill(master, signal.SIGKILL)
    client.finish()
    wait_until(lambda: not jobs.processes(), 60, lambda: str(jobs.processes()))
    facts = json.loads(jobs.cli("status", "last", "--json").out)
    # A master that has time to see its client go says so before its own end, and leaves the rest to others.
    assert facts["state"] in (("failed",) if victim == "master" else ("failed", "killed")), facts
    assert not checkpoints(jobs)


@pytest.mark.parametrize("left", ["everything", "checkpoints"])
def test_what_a_master_left_that_died_while_it_tidied_is_removed_by_who_asks(jobs: Jobs, left: str) -> None:
    """It wrote how the job ended, then died: at once, or when its folder of sockets was gone already."""
    client = jobs.start("submit", "standalone", "-n", "2", *QUICK, jobs.program(COMMITS))
    jobs.until_event("checkpoint_committed", count=3)
    (master,) = jobs.pids("master")
    runtime = next(jobs.temporary.glob("twister2-*/*"))
    os.kill(master, signal.SIGSTOP)
    client.signal(signal.SIGKILL)
    client.finish()
    os.kill(master, signal.SIGKILL)
    wait_until(lambda: not jobs.processes(), 60, lambda: str(jobs.processes()))
    state = json.loads((jobs.job() / "state.json").read_text())
    (jobs.job() / "state.json").write_text(json.dumps({**state, "state": "killed"}))
    if left == "checkpoints":
        shutil.rmtree(runtime, ignore_errors=True)
    assert checkpoints(jobs)
    assert json.loads(jobs.cli("status", "last", "--json").out)["state"] == "killed"
    assert not runtime.exists()
    assert not checkpoints(jobs)


def test_what_was_written_before_the_fork_server_died_is_not_lost_and_the_error_names_it(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import os, pathlib, signal, time

        def main(env):
            pathlib.Path(f"folder-{env.worker_id}").write_text(str(env.volumes.volatile))
            env.barrier()
            if env.worker_id == 1:
                print("last words" * 1000, flush=True)
                os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        """
    )
    done = jobs.submit(program, *QUICK, "-o", "job.attempts=1")
    assert done.code == 1, done
    assert done.out == "last words" * 1000 + "\n"
    assert "[T2-J403] worker 1 was lost" in done.err, done
    assert "its fork server ended with signal SIGKILL" in done.err
    assert not pathlib.Path(jobs.until_file("folder-1")).exists()


def test_a_process_that_the_system_refuses_is_an_error_that_names_the_cause(jobs: Jobs) -> None:
    jobs.program(
        """
        import os, sys

        if len(sys.orig_argv) > 2 and "launcher" in sys.orig_argv[2]:
            from twister2.worker import forkserver
            serve = forkserver._serve

            def full(sock, supervisor):
                def fork():
                    raise BlockingIOError(11, "Resource temporarily unavailable")
                os.fork = fork
                serve(sock, supervisor)

            forkserver._serve = full
        """,
        "full/sitecustomize.py",
    )
    before = os.environ.get("PYTHONPATH", "")
    jobs.environment["PYTHONPATH"] = f"{jobs.folder / 'full'}{os.pathsep}{before}"
    done = jobs.submit(jobs.program(WAITS), *QUICK, args=["0"])
    assert done.code == 4, done
    assert "could not be started" in done.err
    assert "fork: Resource temporarily unavailable" in done.err
    assert "ulimit -u" in done.err
    assert len(jobs.events("attempt_started")) <= 1


@pytest.mark.needs_mpi
@pytest.mark.parametrize("victim", ["master", "launcher"])
def test_shared_memory_of_supervisors_that_could_not_remove_it_goes_with_the_job(jobs: Jobs, victim: str) -> None:
    program = jobs.program(
        """
        import os, pathlib, time
        from twister2_testkit.segments import stand_in

        def main(env):
            stand_in("mpich_shm", os.getpid()).touch()
            mine = pathlib.Path(f"ready-1-{env.worker_id}")
            mine.with_suffix(".new").write_text(str(os.getpid()))
            mine.with_suffix(".new").rename(mine)
            time.sleep(600)
        """
    )
    words = ("-n", "2", *QUICK, "-o", 'job.comm=["mpi"]', "-o", "job.attempts=1")
    client = jobs.start("submit", "standalone", *words, program)
    users = [user(jobs, worker=worker) for worker in (0, 1)]
    for pid in users:
        os.kill(parent(parent(pid)), signal.SIGSTOP)
    (pid,) = jobs.pids(victim)
    os.kill(pid, signal.SIGKILL)
    done = client.finish()
    assert done.code == 1, done
    assert not any(stand_in("mpich_shm", pid).exists() for pid in users)
