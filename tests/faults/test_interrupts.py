"""Ctrl-C in the submitting process: once is graceful, twice is now."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.faults
PATIENT = ("-o", "job.kill_grace_s=60")
"""So that a program that a busy machine holds up is not killed before it has done what is looked at."""

PROGRAM = """
    import os, pathlib, sys, time
    import twister2

    def main(env):
        env.on_close(lambda: print("closed", env.worker_id, flush=True))
        pathlib.Path(f"up-{env.worker_id}").touch()
        while True:
            time.sleep(0.05)
            env.barrier()

    def deaf(env):
        while True:
            try:
                pathlib.Path(f"up-{env.worker_id}").touch()
                time.sleep(600)
            except BaseException:
                pass

    def sleeper(env):
        try:
            pathlib.Path(f"up-{env.worker_id}").touch()
            time.sleep(600)
        except KeyboardInterrupt:
            print("told", flush=True)
            raise

    def tidies_up(env):
        try:
            pathlib.Path(f"up-{env.worker_id}").touch()
            time.sleep(600)
        finally:
            time.sleep(1.5)
            print("tidy", flush=True)

    def cleans_up(env):
        try:
            pathlib.Path(f"up-{env.worker_id}").touch()
            while True:
                print("text", flush=True)
                time.sleep(0.01)
        finally:
            time.sleep(0.5)
            pathlib.Path(f"clean-{env.worker_id}").touch()

    def own_handler(env):
        import signal
        seen = []
        signal.signal(signal.SIGINT, lambda *_: seen.append(1))
        pathlib.Path(f"up-{env.worker_id}").touch()
        while not seen:
            time.sleep(0.01)
        time.sleep(0.5)
        print("seen", len(seen), flush=True)

    def talks(env):
        pathlib.Path(f"up-{env.worker_id}").touch()
        while True:
            env.log.debug("x" * 1000)
            env.log.info("talk " * 200)
            env.progress(1, 2)

    if __name__ == "__main__":
        try:
            twister2.run(globals()[sys.argv[1]], workers=2, settings=["job.kill_grace_s=60"])
        except twister2.Twister2Error as error:
            print(type(error).__name__, error.why)
"""


def up(jobs: Jobs) -> None:
    jobs.until_file("up-0")
    jobs.until_file("up-1")


def test_once_is_graceful(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", *PATIENT, jobs.program(PROGRAM))
    up(jobs)
    client.signal(signal.SIGINT)
    done = client.finish(40)
    assert done.code == 130, done
    assert sorted(done.out.splitlines()) == ["closed 0", "closed 1"]
    assert "[T2-J405] the job was killed" in done.err
    assert "Ctrl-C" in done.err
    assert "Traceback" not in done.err
    assert [event["state"] for event in jobs.events("job_ended")] == ["killed"]


@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_a_sleeping_program_ends_long_before_its_grace(jobs: Jobs, how: str) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", *PATIENT, f"{jobs.program(PROGRAM)}:sleeper")
    up(jobs)
    begun = time.time()
    if how == "ctrl-c":
        client.signal(signal.SIGINT)
    else:
        assert jobs.cli("kill", "last").code == 0
    done = client.finish(40)
    assert done.code == (130 if how == "ctrl-c" else 5), done
    assert done.out.splitlines() == ["told", "told"]
    assert jobs.events("job_ended")[0]["time"] - begun < 40
    ended = jobs.events("worker_ended")
    assert [event["code"] for event in ended] == [1, 1]
    assert max(event["time"] for event in ended) - begun < 40
    status = jobs.cli("wait", "last")
    assert status.code == 5, status


@pytest.mark.parametrize(("function", "lines"), [("tidies_up", ["tidy"] * 2), ("own_handler", ["seen 1"] * 2)])
def test_a_program_that_cleans_up_has_its_grace(jobs: Jobs, function: str, lines: list[str]) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", *PATIENT, f"{jobs.program(PROGRAM)}:{function}")
    up(jobs)
    client.signal(signal.SIGINT)
    done = client.finish(40)
    assert done.code == 130, done
    assert done.out.splitlines() == lines


def test_a_message_is_not_cut_in_two(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-q", "-n", "2", *PATIENT, f"{jobs.program(PROGRAM)}:talks")
    up(jobs)
    time.sleep(0.3)
    client.signal(signal.SIGINT)
    done = client.finish(40)
    assert done.code == 130, done
    assert len(jobs.events("worker_ended")) == 2
    assert not jobs.events("worker_lost")


def test_twice_is_now(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", *PATIENT, f"{jobs.program(PROGRAM)}:deaf")
    up(jobs)
    client.signal(signal.SIGINT)
    jobs.until_event("job_ended")  # it has heard the first: two that come at once are one
    client.signal(signal.SIGINT)
    done = client.finish(40)
    assert done.code == 130, done
    assert "Traceback" not in done.err
    assert jobs.events("job_ended")


def test_in_run(jobs: Jobs) -> None:
    client = jobs.start_python(jobs.program(PROGRAM), "main")
    up(jobs)
    client.signal(signal.SIGINT)
    done = client.finish(40)
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["JobKilledError Ctrl-C in the submitting client", "closed 0", "closed 1"]


def test_of_a_whole_process_group_as_a_terminal_sends_it(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", *PATIENT, jobs.program(PROGRAM))
    up(jobs)
    os.killpg(client.pid, signal.SIGINT)
    done = client.finish(40)
    assert done.code == 130, done
    assert sorted(done.out.splitlines()) == ["closed 0", "closed 1"]


# An interpreter that is interrupted while it sets itself up ends as it likes, long before there is anything of ours.
COMMAND = """
import pathlib, sys
from twister2.cli.main import main
pathlib.Path("begun").touch()
sys.exit(main())
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.25, 0.4, 0.6])
def test_while_it_starts(jobs: Jobs, delay_s: float) -> None:
    client = jobs.start_python("-c", COMMAND, "submit", "standalone", "-n", "2", jobs.program(PROGRAM))
    jobs.until_file("begun")
    time.sleep(delay_s)
    client.signal(signal.SIGINT)
    done = client.finish(40)
    assert done.code in (130, -signal.SIGINT), done


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_client_takes_the_job_with_it_and_says_so(jobs: Jobs, number: signal.Signals) -> None:
    """In order, however often it is told: a session that ends sends more than one signal."""
    client = jobs.start("submit", "standalone", "-n", "2", *PATIENT, jobs.program(PROGRAM))
    up(jobs)
    client.signal(number)
    client.signal(number)
    done = client.finish(40)
    assert done.code == 128 + number, done
    assert sorted(done.out.splitlines()) == ["closed 0", "closed 1"]
    last = done.err.splitlines()
    assert "[T2-J405] the job was killed" in last[-3], done
    assert f"{number.name} to the submitting client" in last[-2]
    assert [event["state"] for event in jobs.events("job_ended")] == ["killed"]
    status = jobs.cli("status", "last", "--json")
    assert f"{number.name} to the submitting client" in status.out


def test_the_terminal_goes_while_the_job_writes_to_it(jobs: Jobs) -> None:
    """The window is closed: the job is ended in order, with its grace, though nothing can be shown any more."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "twister2.cli.main", "submit", "standalone", "-n", "2", *PATIENT]
    environment = {**jobs.environment, "TERM": "xterm"}
    session = "import os, sys, fcntl, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    session += "os.execv(sys.argv[1], sys.argv[1:])"
    program = f"{jobs.program(PROGRAM)}:cleans_up"
    client = subprocess.Popen(
        [sys.executable, "-c", session, *command, program], stdin=its, stdout=its, stderr=its, env=environment,
        cwd=jobs.folder,
    )  # fmt: skip
    os.close(its)
    up(jobs)
    os.close(ours)
    assert client.wait(40) == 128 + signal.SIGHUP
    (ended,) = jobs.events("job_ended")
    assert ended["state"] == "killed"
    assert "SIGHUP to the submitting client" in str(ended)
    assert [(jobs.folder / f"clean-{worker}").exists() for worker in (0, 1)] == [True, True]


def test_a_client_that_is_stopped_while_its_job_ends(jobs: Jobs) -> None:
    """Ctrl-Z and fg: it still learns how the job ended, with what was printed."""
    program = jobs.program(
        """
        import time

        def main(env):
            print("up", flush=True)
            time.sleep(1)
            print("done")
        """
    )
    client = jobs.start("submit", "standalone", "-n", "1", program)
    time.sleep(1.0)
    client.signal(signal.SIGSTOP)
    time.sleep(5.0)
    client.signal(signal.SIGCONT)
    done = client.finish(40)
    assert done.code == 0, done
    assert done.out == "up\ndone\n"


def test_the_end_of_a_program_that_is_killed_after_its_grace_is_written_down(jobs: Jobs) -> None:
    client = jobs.start(
        "submit", "standalone", "-n", "2", "-o", "job.kill_grace_s=0.5", f"{jobs.program(PROGRAM)}:deaf"
    )
    up(jobs)
    client.signal(signal.SIGINT)
    done = client.finish(40)
    assert done.code == 130, done
    assert [event["code"] for event in jobs.events("worker_ended")] == [-9, -9]
    assert not jobs.events("worker_lost")
