"""Programs and command lines that cannot work: one clear error that names the thing, no hang, no orphan."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs


def test_an_exception_in_one_worker_is_one_error(jobs: Jobs) -> None:
    program = jobs.program(
        """
        class Odd(Exception):
            pass

        def deeper(value):
            raise Odd(f"value {value} is odd")  # the line to name

        def main(env):
            if env.worker_id == 1:
                deeper(17)
            env.barrier()
        """
    )
    done = jobs.submit(program, workers=3)
    line = program.read_text().splitlines().index('    raise Odd(f"value {value} is odd")  # the line to name') + 1
    assert done.code == 1, done
    assert done.err.count("[T2-J401]") == 1
    assert "Odd: value 17 is odd" in done.err
    assert f"{program}:{line} in deeper" in done.err
    assert f'File "{program}", line {line}, in deeper' in done.err
    assert "twister2/worker" not in done.err, "the traceback shows our own frames"
    assert "StepAborted" not in done.err
    ended = jobs.events("job_ended")
    assert [(event["state"], event["error"]["code"]) for event in ended] == [("failed", "T2-J401")]
    assert ended[0]["error"]["details"]["worker"] == 1
    assert len(jobs.events("attempt_started")) == 1, "a user's bug was retried"


def test_an_exception_with_megabytes_of_text_is_one_error_and_the_log_has_all_of_it(jobs: Jobs) -> None:
    program = jobs.program(
        """
        def main(env):
            if env.worker_id == 1:
                raise ValueError("begin" + "\u00e4" * 6_000_000 + "end")
            env.barrier()
        """
    )
    done = jobs.submit(program)
    assert done.code == 1, done.err[:10_000]
    assert "[T2-J401] ValueError: begin\u00e4" in done.err
    assert "characters left out ..." in done.err
    assert "the log of worker 1 has the whole text" in done.err
    assert len(done.err) < 30_000
    log = (jobs.job() / "logs" / "worker-1.log").read_text(encoding="utf-8")
    assert log.startswith("[T2-J401] ValueError: begin\u00e4")
    assert log.count("\u00e4") >= 2 * 6_000_000, "in the message and in the traceback"
    assert f'File "{program}", line 4, in main' in log


def test_an_exception_reaches_the_caller_of_run(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import twister2
        from twister2.spec.errors import UserCodeError

        def main(env):
            {}[env.worker_id + 40] if env.worker_id else env.barrier()

        if __name__ == "__main__":
            try:
                twister2.run(main, workers=2)
            except UserCodeError as error:
                print(error.what, error.details["worker"], error.details["type"])
                print("in main" in error.details["traceback"], error.where)
        """
    )
    done = jobs.python(program)
    assert done.code == 0, done
    first, second = done.out.splitlines()
    assert first == "KeyError: 41 1 KeyError"
    assert second.startswith(f"True {program}:")


def test_exceptions_of_strange_kinds(jobs: Jobs) -> None:
    program = jobs.program(
        """
        class Nasty(BaseException):
            def __str__(self): raise RuntimeError("no text")

        def nasty(env): raise Nasty()
        def interrupt(env): raise KeyboardInterrupt
        def group(env): raise ExceptionGroup("several", [ValueError(1), KeyError("two")])
        def recursion(env): return recursion(env)
        def memory(env): return bytearray(1 << 60)
        """
    )
    for function, expected in (
        ("nasty", "Nasty"),
        ("interrupt", "KeyboardInterrupt"),
        ("group", "ExceptionGroup: several"),
        ("recursion", "RecursionError"),
        ("memory", "MemoryError"),
    ):
        done = jobs.submit(f"{program}:{function}", workers=1)
        assert done.code == 1, (function, done)
        assert "[T2-J401]" in done.err, (function, done)
        assert expected in done.err, (function, done)


SIGNATURES = """
    import functools

    def none():
        pass

    def two(env, other):
        pass

    def inside(env):
        two(env)

    def wrapping(function):
        @functools.wraps(function)
        def wrapper(env):
            return function()
        return wrapper

    @wrapping
    def wrapped():
        print("called")

    given = functools.partial(two, other=1)
    missing = functools.partial(two)
    builtin = len
"""


@pytest.mark.parametrize("function", ["none", "two"])
def test_a_function_that_does_not_take_one_argument(jobs: Jobs, function: str) -> None:
    program = jobs.program(SIGNATURES)
    line = next(n for n, text in enumerate(program.read_text().splitlines(), 1) if f"def {function}(" in text)
    done = jobs.submit(f"{program}:{function}", workers=1)
    assert done.code == 1, done
    assert "[T2-J401]" in done.err
    assert f"{program}:{line}" in done.err
    assert f"{function} takes one argument, env" in done.err
    assert "twister2/worker" not in done.err, "our own frames are shown"


def test_functions_that_can_be_called_are_and_errors_inside_them_are_their_own(jobs: Jobs) -> None:
    program = jobs.program(SIGNATURES)
    assert jobs.submit(f"{program}:given", workers=1).code == 0
    done = jobs.submit(f"{program}:wrapped", workers=1)
    assert (done.code, done.out) == (0, "called\n"), done
    done = jobs.submit(f"{program}:inside", workers=1)
    assert "in inside" in done.err, done
    assert "takes one argument" not in done.err
    done = jobs.submit(f"{program}:missing", workers=1)
    assert "takes one argument" in done.err, done
    assert "[T2-J401] TypeError: object of type" in jobs.submit(f"{program}:builtin", workers=1).err


NOTHING_RUNS = """
    import asyncio

    async def coroutine(env):
        print("it ran")

    def generator(env):
        print("it ran")
        yield 1

    async def both(env):
        print("it ran")
        yield 1

    def good(env):
        asyncio.run(coroutine(env))
"""


def test_a_function_of_which_a_call_runs_nothing(jobs: Jobs) -> None:
    program = jobs.program(NOTHING_RUNS)
    for function, remedy in (("coroutine", "asyncio.run"), ("generator", "without 'yield'"), ("both", "asyncio.run")):
        done = jobs.submit(f"{program}:{function}", workers=1)
        assert (done.code, done.out) == (1, ""), (function, done)
        assert f"[T2-J401] nothing of {function} has run" in done.err, done
        assert remedy in done.err, done
        assert "RuntimeWarning" not in done.err, done
    done = jobs.submit(f"{program}:good", workers=1)
    assert (done.code, done.out) == (0, "it ran\n"), done


def test_progress_is_told_in_numbers(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import numpy as np
        from twister2.spec.errors import UsageError

        def main(env):
            env.progress(0)
            env.progress(np.int64(1), np.float32(2.5), "files")
            env.progress(3, 2)
            for wrong in ("x", "1", None, -1, -0.5, float("nan"), float("inf"), [1]):
                for given in ((wrong, 2), (1, wrong)):
                    try:
                        env.progress(*given)
                    except UsageError as error:
                        name = "done" if given[1] == 2 else "total"
                        assert error.what == f"env.progress: {name} is {wrong!r}", error
                        assert "prog.py:" in error.where, error
                    else:
                        assert given == (1, None), given
            print("all refused")
        """
    )
    done = jobs.submit(program, workers=1)
    assert (done.code, done.out) == (0, "all refused\n"), done


RESULTS = """
    import sys, threading
    import twister2
    from twister2.spec.errors import ResultError

    def unpicklable(env):
        return threading.Lock() if env.worker_id else 1

    class Bomb:
        def __reduce__(self):
            return eval, ("1/0",)

    def unpickles_not(env):
        return Bomb() if env.worker_id else 1

    def large(env):
        return bytes(3 << 20)

    if __name__ == "__main__":
        try:
            twister2.run(globals()[sys.argv[1]], workers=2, settings=["job.result_limit_mb=2"])
        except ResultError as error:
            print(error)
            print(repr(error.__cause__), error.details.get("traceback"))
"""


def test_a_result_that_cannot_be_pickled_names_type_and_worker(jobs: Jobs) -> None:
    done = jobs.python(jobs.program(RESULTS), "unpicklable")
    assert done.code == 0, done
    assert "worker 1's result of type lock cannot be returned" in done.out


def test_a_result_that_cannot_be_unpickled_names_the_worker_and_the_cause(jobs: Jobs) -> None:
    done = jobs.python(jobs.program(RESULTS), "unpickles_not")
    assert done.code == 0, done
    assert "[T2-J409] worker 1's result cannot be unpickled here" in done.out
    assert "ZeroDivisionError: division by zero" in done.out
    assert "ZeroDivisionError('division by zero') Traceback (most recent call last)" in done.out


def test_a_result_that_is_too_large_names_the_limit(jobs: Jobs) -> None:
    done = jobs.python(jobs.program(RESULTS), "large")
    assert done.code == 0, done
    assert "3.0 MiB" in done.out
    assert "at most 2 MiB" in done.out


def test_results_of_submit_need_not_be_picklable(jobs: Jobs) -> None:
    done = jobs.submit(f"{jobs.program(RESULTS)}:unpicklable")
    assert done.code == 0, done


def test_an_unpicklable_closure_is_refused_before_anything_starts(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import threading, twister2
        def outer():
            lock = threading.Lock()
            def main(env):
                return lock
            return main
        if __name__ == "__main__":
            twister2.run(outer(), workers=2)
        """
    )
    done = jobs.python(program)
    assert done.code == 1, done
    assert "PackageError" in done.err
    assert "outer.<locals>.main" in done.err
    assert "lock" in done.err.splitlines()[-2]
    assert not jobs.folders()


def test_a_program_that_raises_while_it_is_imported(jobs: Jobs) -> None:
    program = jobs.program("import nothing_of_that_name\ndef main(env):\n    pass\n")
    done = jobs.submit(program)
    assert done.code == 1, done
    assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in done.err
    assert f'File "{program}", line 1' in done.err
    assert done.err.count("[T2-J401]") == 1


def test_a_program_that_exits_while_it_is_imported(jobs: Jobs) -> None:
    done = jobs.submit(jobs.program("import sys\nsys.exit('not today')\n"))
    assert done.code == 1, done
    assert "not today" in done.err


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("def main(env:\n    pass\n", "line 1"),
        ("def main(env):\n\tif 1:\n        pass\n", "line 3"),
        ("x = '\0'\n", "null byte"),
    ],
)
def test_a_syntax_error_is_seen_before_anything_starts(jobs: Jobs, source: str, named: str) -> None:
    program = jobs.folder / "bad.py"
    program.write_text(source)
    done = jobs.submit(program)
    assert done.code != 0
    assert str(program) in done.err, done
    assert named in done.err, done
    assert not jobs.folders()


def test_no_such_program(jobs: Jobs) -> None:
    for name in ("missing.py", "missing.py:main", str(jobs.folder)):
        done = jobs.submit(name)
        assert done.code != 0
        assert f"cannot read the program {name.removesuffix(':main')}" in done.err, done
    assert not jobs.folders()


def test_no_such_function_names_those_there_are(jobs: Jobs) -> None:
    program = jobs.program("def start(env):\n    pass\n\ndef other():\n    pass\n")
    done = jobs.submit(program)
    assert done.code == 1, done
    assert "no function 'main'" in done.err
    assert "other, start" in done.err
    assert len(jobs.events("job_ended")) == 1


def test_a_missing_main_guard_is_named_quickly(jobs: Jobs) -> None:
    program = jobs.program("import twister2\ndef main(env):\n    return 1\nprint(twister2.run(main, workers=2))\n")
    done = jobs.python(program)
    assert done.code == 1, done
    assert 'if __name__ == "__main__":' in done.err
    assert done.seconds < 50
    assert len(jobs.folders()) == 1


def test_run_inside_a_worker_is_an_error(jobs: Jobs) -> None:
    program = jobs.program("import twister2\ndef main(env):\n    twister2.run(main)\n")
    done = jobs.submit(program)
    assert done.code != 0
    assert "inside a worker" in done.err, done
    assert len(jobs.folders()) == 1


def test_submitting_a_program_without_a_guard_says_so(jobs: Jobs) -> None:
    program = jobs.program("import twister2\ndef main(env):\n    return 1\ntwister2.run(main, workers=2)\n")
    done = jobs.submit(program)
    assert done.code != 0
    assert 'if __name__ == "__main__":' in done.err, done


def test_exit_codes_of_a_worker(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import os, sys
        def os_exit(env):
            print("last words", file=sys.stderr, flush=True)
            os._exit(137) if env.worker_id == 1 else env.barrier()
        def sys_exit(env):
            sys.exit(3) if env.worker_id == 1 else env.barrier()
        def sys_exit_text(env):
            sys.exit("because of this")
        def sys_exit_zero(env):
            env.barrier()
            sys.exit(0)
        def os_exit_zero(env):
            os._exit(0) if env.worker_id == 1 else env.barrier()
        """
    )
    done = jobs.submit(f"{program}:os_exit", workers=3)
    assert done.code == 1, done
    assert "[T2-J402] worker 1 ended by itself with exit code 137 (the shell's code for signal 9)" in done.err
    assert done.err.count("[T2-") == 1
    assert "last words" in done.err
    assert len(jobs.events("attempt_started")) == 1, "an exit of the program's own was retried"
    for function, code, text in (
        ("sys_exit", 1, "worker 1 called sys.exit(3)"),
        ("sys_exit_text", 1, "because of this"),
        ("sys_exit_zero", 0, ""),
        ("os_exit_zero", 1, "worker 1 ended by itself with exit code 0"),
    ):
        done = jobs.submit(f"{program}:{function}")
        assert done.code == code, (function, done)
        assert text in done.err, (function, done)


def test_five_mistakes_in_the_configuration_are_told_at_once(jobs: Jobs) -> None:
    program = jobs.program("def main(env):\n    pass\n")
    (jobs.folder / "twister2.toml").write_text(
        '[job]\nworkers = "two"\nwokers = 3\nheartbeat_s = -1\n'
        '[job.network]\nspin_us = 1.5\n[rm.standalone]\nworkers_as = "fibres"\n'
    )
    done = jobs.start("submit", "standalone", "-o", "job.attempts=0", program).finish()
    assert done.code == 2, done
    for text in ("job.workers", "wokers", "heartbeat_s", "spin_us", "workers_as", "attempts", "twister2.toml"):
        assert text in done.err, (text, done)
    assert done.err.count("[T2-") == 1
    assert not jobs.folders()


def test_more_workers_than_the_memory_holds(jobs: Jobs) -> None:
    program = jobs.program("def main(env):\n    pass\n")
    done = jobs.submit(program, workers=10_000)
    assert done.code == 4, done
    assert "10,000 workers do not fit the free memory of this machine" in done.err
    assert "oversubscribe" in done.err
    assert not jobs.folders()


def test_unknown_profile_and_unknown_plugins(jobs: Jobs) -> None:
    program = jobs.program("def main(env):\n    pass\n")
    for options, text in (
        (("standalon",), "standalone"),
        (("standalone", "-o", "job.comm=tpc"), "tcp"),
        (("standalone", "-o", "job.sched=nonesuch"), "nonesuch"),
    ):
        done = jobs.start("submit", *options, program).finish()
        assert done.code == 2, (options, done)
        assert text in done.err, (options, done)
    assert not jobs.folders()


def test_a_missing_extra_file(jobs: Jobs) -> None:
    done = jobs.submit(jobs.program("def main(env):\n    pass\n"), "-o", "job.files=nothing.csv")
    assert done.code != 0
    assert "nothing.csv" in done.err, done
    assert not jobs.folders()


def test_a_state_folder_that_cannot_be_written(jobs: Jobs) -> None:
    program = jobs.program("def main(env):\n    pass\n")
    (jobs.folder / "file").write_text("in the way")
    done = jobs.start(
        "submit", "standalone", program, env={"TWISTER2__JOB__STATE_DIR": str(jobs.folder / "file")}
    ).finish()
    assert done.code not in (0, 70), done
    assert str(jobs.folder / "file") in done.err, done
