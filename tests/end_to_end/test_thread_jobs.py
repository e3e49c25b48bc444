"""Jobs of threads that end badly, or beside others: the client's process goes on as if there had been none."""

from __future__ import annotations

import signal

import pytest

from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import wait_until

THREADS = ("-o", "rm.standalone.workers_as=threads", "-o", "job.comm=inproc")
MODES = ["processes", "threads"]


def options(mode: str) -> tuple[str, ...]:
    return THREADS if mode == "threads" else ()


BAD = {
    "nothing_of_that_name": ("import nothing_of_that_name\ndef main(env):\n    pass\n", "ModuleNotFoundError"),
    "exits": ("import sys\nsys.exit('not today')\n", "not today"),
    "raises": ("def main(env):\n    pass\nraise ValueError('on purpose')\n", "ValueError: on purpose"),
    "no_function": ("def start(env):\n    pass\n", "no function 'main'"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_program_that_cannot_be_imported(jobs: Jobs, bad: str) -> None:
    source, text = BAD[bad]
    done = jobs.submit(jobs.program(source), *THREADS)
    assert done.code == 1, done
    assert text in done.err
    assert done.err.count("[T2-") == 1, done
    assert "thread" not in done.err
    assert not jobs.folders()
    assert not list(jobs.temporary.glob("twister2-*/*"))


def test_jobs_one_after_another_have_their_own_modules(jobs: Jobs) -> None:
    jobs.program("import helper\ndef main(env):\n    return helper.number\n", "prog.py")
    script = jobs.program(
        f"""
        import pathlib, sys, threading
        import twister2

        before = list(sys.path)
        for number in (1, 2):
            pathlib.Path({str(jobs.folder)!r}, "helper.py").write_text(f"number = {{number}}")
            print(twister2.run("prog.py", workers=2, settings=[
                "rm.standalone.workers_as=threads", "job.comm=inproc"]))
        pathlib.Path({str(jobs.folder)!r}, "helper.py").write_text("1 / 0")
        try:
            twister2.run("prog.py", workers=2, settings=["rm.standalone.workers_as=threads", "job.comm=inproc"])
        except twister2.Twister2Error as error:
            print(error.what)
        print(sys.path == before, "helper" in sys.modules, threading.active_count())
        """,
        "script.py",
    )
    done = jobs.python("-P", script)
    assert (done.code, done.out) == (
        0,
        "[1, 1]\n[2, 2]\nZeroDivisionError: division by zero\nTrue False 1\n",
    ), done


GIVES_UP = """
    import json, os, pathlib, sys, threading, time
    import twister2

    class Full:
        encoding = "utf-8"
        def write(self, text): raise RuntimeError("the reader has gone")
        def flush(self): pass
        def isatty(self): return False

    def main(env):
        env.log.info("worker %d", env.worker_id)
        while True:
            env.barrier()
            pathlib.Path(f"alive-{env.worker_id}").write_text(str(time.time()))
            time.sleep(0.01)

    if __name__ == "__main__":
        settings = sys.argv[2:]
        real = sys.stderr

        def give_up():
            sys.stderr = Full()
            try:
                twister2.run(main, workers=2, settings=settings)
            except RuntimeError as error:
                return str(error)
            finally:
                sys.stderr = real

        print(give_up())
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
        print(give_up(), threading.active_count() - threads, len(os.listdir("/proc/self/fd")) - files, threads)
        for _ in range(20):  # processes that were killed may take a moment on a busy machine
            now = time.time()
            time.sleep(0.5)
            # not what is in it: a thread that ended between open and write leaves it empty
            still = not all(path.stat().st_mtime < now for path in pathlib.Path().glob("alive-*"))
            if not still:
                break
        print(not still)
        for folder in sorted(pathlib.Path(os.environ["TWISTER2__JOB__STATE_DIR"], "jobs").iterdir()):
            state = json.loads((folder / "state.json").read_text())
            ended = [line for line in (folder / "events.jsonl").read_text().splitlines() if '"job_ended"' in line]
            print(state["state"], len(ended), (folder / "program").exists(), state["error"]["why"])
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_gives_up_ends_its_job_and_leaves_nothing_in_its_process(jobs: Jobs, mode: str) -> None:
    words = [word for word in options(mode) if word != "-o"]
    done = jobs.python(jobs.program(GIVES_UP), "-", *words)
    gone = "the reader has gone"
    line = f"killed 1 False the submitting client failed: RuntimeError: {gone}\n"
    assert (done.code, done.out) == (0, f"{gone}\n{gone} 0 0 1\nTrue\n{line}{line}"), done


@pytest.mark.parametrize("mode", MODES)
def test_a_record_that_cannot_be_written_ends_what_was_started(jobs: Jobs, mode: str) -> None:
    """Nothing of the program runs by then: it might end this process, and nobody would know of the job."""
    program = jobs.program(
        """
        import os, pathlib, sys, threading, time
        import twister2
        from twister2.client.records import JobRecord

        def write(record, folder, **options):
            time.sleep(0.5)
            raise twister2.Twister2Error("the disk is full", why="a test", remedy="none")

        def main(env):
            pathlib.Path("runs").write_text("")
            while True:
                env.barrier()

        def threads():
            end = time.monotonic() + 30.0
            while threading.active_count() > 1 and time.monotonic() < end:
                time.sleep(0.01)  # one that is ending may be seen a moment longer
            return threading.active_count()

        if __name__ == "__main__":
            JobRecord.write = write
            for _ in range(2):
                files = len(os.listdir("/proc/self/fd"))
                try:
                    twister2.run(main, workers=2, settings=sys.argv[2:])
                except twister2.Twister2Error as error:
                    print(error.what, threads(), pathlib.Path("runs").exists())
            print(len(os.listdir("/proc/self/fd")) - files)
        """
    )
    done = jobs.python(program, mode, *[word for word in options(mode) if word != "-o"])
    assert (done.code, done.out) == (0, "the disk is full 1 False\n" * 2 + "0\n"), done
    assert not jobs.folders()
    assert not list(jobs.temporary.glob("twister2-*/*"))


@pytest.mark.parametrize("mode", MODES)
def test_results_are_taken_before_what_they_may_lie_in_is_closed(jobs: Jobs, mode: str) -> None:
    program = jobs.program(
        """
        import sys
        import twister2

        class Result:
            def __reduce__(self):
                with open("order", "a") as file:
                    file.write("pickled ")
                return int, (7,)

        def close():
            with open("order", "a") as file:
                file.write("closed ")

        def main(env):
            env.on_close(close)
            return Result()

        if __name__ == "__main__":
            print(twister2.run(main, workers=1, settings=sys.argv[2:]), open("order").read())
        """
    )
    done = jobs.python(program, "-", *[word for word in options(mode) if word != "-o"])
    assert (done.code, done.out) == (0, "[7] pickled closed \n"), done


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", ["return", "raise ValueError('in a fork')"])
def test_a_process_that_the_program_forks_says_nothing_for_it(jobs: Jobs, mode: str, end: str) -> None:
    program = jobs.program(
        f"""
        import os

        def main(env):
            env.volumes.volatile.joinpath("mine").write_text("x")
            pid = os.fork()
            if pid == 0:
                {end}
            _, status = os.waitpid(pid, 0)
            env.barrier()
            print(os.waitstatus_to_exitcode(status), env.volumes.volatile.joinpath("mine").exists())
        """
    )
    done = jobs.submit(program, "-q", *options(mode), workers=1)
    assert (done.code, done.out) == (0, f"{0 if end == 'return' else 1} True\n"), done


def test_two_jobs_at_once_in_one_process(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import sys, threading, time
        import twister2

        settings = ["rm.standalone.workers_as=threads", "job.comm=inproc"]

        def short(env):
            print(f"short {env.worker_id}")

        def long(env):
            for number in range(40):
                print("long", end="")
                time.sleep(0.02)
                print(f" {env.worker_id} {number}")
                env.barrier()

        if __name__ == "__main__":
            before = sys.stdout
            thread = threading.Thread(target=twister2.run, args=(long,), kwargs=dict(workers=2, settings=settings))
            thread.start()
            for _ in range(2):
                twister2.run(short, workers=2, settings=settings)
            thread.join()
            print(sys.stdout is before, threading.active_count())
        """
    )
    done = jobs.python(program)
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[-1] == "True 1"
    wanted = ["short 0", "short 1"] * 2 + [f"long {worker} {number}" for worker in (0, 1) for number in range(40)]
    assert sorted(lines[:-1]) == sorted(wanted)


@pytest.mark.parametrize(
    ("body", "told"),
    [("env.barrier()", "JobKilledError"), ("sum(range(1000))", "KeyboardInterrupt"), ("time.sleep(600)", "")],
)
def test_ctrl_c(jobs: Jobs, body: str, told: str) -> None:
    """A worker that blocks outside of Python cannot hear of it: it has its grace, and then ends with the client.

    It is interrupted when workers 0 and 1 do what is looked at. Worker 2 sees that from outside: a worker that said so
    itself would be interrupted while it does, outside of all that it catches.
    """
    grace_s = 0.5 if not told else 300
    program = jobs.program(
        f"""
        import pathlib, sys, threading, time

        threads = {{}}

        def works(env):
            threads[env.worker_id] = threading.get_ident()
            while True:
                {body}

        def does_it(worker):  # it is inside of works, and, if that is what it does, inside of a call of Twister2
            frame, names = sys._current_frames().get(threads.get(worker)), set()
            while frame is not None and frame.f_code is not works.__code__:
                names.add(frame.f_globals["__name__"].partition(".")[0])
                frame = frame.f_back
            return frame is not None and ("twister2" in names or {not body.startswith("env")})

        def main(env):
            if env.worker_id == 2:
                while not (does_it(0) and does_it(1)):
                    time.sleep(0.01)
                pathlib.Path("runs").write_text("")
                while True:
                    time.sleep(0.01)
            try:
                works(env)
            except BaseException as error:
                print(type(error).__name__)
                raise
        """
    )
    client = jobs.start("submit", "standalone", "-q", "-n", "3", "-o", f"job.kill_grace_s={grace_s}", *THREADS, program)
    wait_until((jobs.folder / "runs").exists, 60, lambda: "not both workers run")
    client.signal(signal.SIGINT)
    done = client.finish(60)
    assert done.code == 130, done
    assert done.out == (f"{told}\n" * 2 if told else ""), done
    assert "Ctrl-C in the submitting client" in done.err
    (ended,) = jobs.events("job_ended")
    assert ended["state"] == "killed"


def test_ctrl_c_twice_waits_for_nobody(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import pathlib, time

        def main(env):
            pathlib.Path(f"runs-{env.worker_id}").write_text("")
            time.sleep(600)
        """
    )
    client = jobs.start("submit", "standalone", "-q", "-n", "2", "-o", "job.kill_grace_s=300", *THREADS, program)
    running = [jobs.folder / f"runs-{worker}" for worker in (0, 1)]
    wait_until(lambda: all(path.exists() for path in running), 30, lambda: "not both workers run")
    client.signal(signal.SIGINT)
    wait_until(lambda: bool(jobs.events("job_ended")), 30, lambda: "the first Ctrl-C has not ended the job")
    client.signal(signal.SIGINT)
    done = client.finish(30)
    assert done.code == 130, done


@pytest.mark.parametrize("comm", ["", "job.comm=tcp", "comm.tcp.same_host=tcp"])
def test_threads_with_transports_between_processes(jobs: Jobs, comm: str) -> None:
    program = jobs.program(
        """
        import numpy
        from twister2_net import allreduce

        def main(env):
            for n in (3, 100_000):
                print(f"sum {allreduce(env, numpy.full(n, env.worker_id + 1.0)).sum() / n}")
        """
    )
    more = ("-o", "job.comm=tcp", "-o", comm) if comm else ()
    done = jobs.submit(program, "-n", "2", "-o", "rm.standalone.workers_as=threads", *more)
    assert done.code == 0, done
    assert done.out.split("\n").count("sum 3.0") == 4
