"""Collectives on arrays between real workers: right answers, and every way of doing something else ends the job."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

HEAD = """
import os, signal, time
import numpy as np
from twister2.spec.collectives import Call
from twister2.spec.errors import StepAbortedError, StepMismatchError
SUM = Call("allreduce")
def total(env, n=4, dtype="f8"):
    array = np.full(n, env.worker_id + 1, dtype)
    env.network.collectives().run(SUM, None, array)
    return array
"""


def submit(jobs: Jobs, body: str, *, workers: int = 3):
    indented = "\n".join(f"        {line}" for line in (HEAD + body).splitlines())
    program = jobs.program(f"\n{indented}\n")
    # a worker that a busy machine holds up is not killed before it has told
    return program, jobs.submit(program, "-o", "job.attempts=1", "-o", "job.kill_grace_s=60", workers=workers)


def line_of(program: object, text: str) -> str:
    lines = program.read_text().splitlines()  # type: ignore[attr-defined]
    (number,) = [index for index, line in enumerate(lines, 1) if line.strip().startswith(text)]
    return f"{program}:{number}"


def test_answers(jobs: Jobs) -> None:
    _, done = submit(
        jobs,
        """
def main(env):
    world = env.network.collectives()
    for n in (1, 1000, 300_000):
        assert (total(env, n) == 6).all()
    halves = env.network.collectives(env.network.split(env.worker_id % 2))
    array = np.array([1.0])
    halves.run(SUM, None, array)
    here = env.network.split_by_host()
    ranks = np.empty(3, "i8")
    request = world.start(Call("allgather"), np.array([env.worker_id]), ranks)
    world.run(Call("barrier"))
    request.wait()
    print(array[0], here.size, ranks.tolist())
""",
    )
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["1.0 3 [0, 1, 2]", "2.0 3 [0, 1, 2]", "2.0 3 [0, 1, 2]"]


OTHERS = {
    "shapes": "total(env, 5 if env.worker_id == 1 else 4)",
    "dtypes": 'total(env, 4, "f4" if env.worker_id == 1 else "f8")',
    "roots": 'env.network.collectives().run(Call("broadcast", root=env.worker_id % 2), None, np.ones(3)); total(env)',
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_calls_name_both_lines_on_all_workers(jobs: Jobs, name: str) -> None:
    _, done = submit(
        jobs,
        f"""
def main(env):
    total(env)
    try:
        {OTHERS[name]}
    except Exception as error:
        print(type(error).__name__)
        raise
    raise SystemExit("nothing was found")
""",
    )
    assert done.code == 1, done
    assert "[T2-J406]" in done.err, done
    assert done.err.count(".py:") >= 2, done
    assert len(done.out.splitlines()) == 3, done
    assert set(done.out.split()) <= {"StepMismatchError", "StepAbortedError"}, done
    assert done.seconds < 50


def test_an_early_return_names_operation_and_line(jobs: Jobs) -> None:
    program, done = submit(
        jobs,
        """
def main(env):
    total(env)
    if env.worker_id == 2:
        return
    env.network.collectives().run(SUM, None, np.ones(9))
""",
    )
    assert done.code == 1, done
    assert "worker 2 has returned while worker" in done.err
    assert "allreduce" in done.err
    assert line_of(program, "env.network.collectives().run(SUM, None, np.ones(9))") in done.err
    assert done.seconds < 50


def test_a_worker_that_is_killed_in_the_middle(jobs: Jobs) -> None:
    _, done = submit(
        jobs,
        """
def main(env):
    for turn in range(100_000):
        if env.worker_id == 1 and turn == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            total(env, 200_000)
        except Exception as error:
            print(type(error).__name__)
            raise
""",
    )
    assert done.code == 1, done
    assert "worker 1" in done.err
    assert "SIGKILL" in done.err or "signal" in done.err
    assert done.out.splitlines() == ["StepAbortedError"] * 2, done
    assert done.seconds < 50


def test_buffers_that_cannot_be_sent(jobs: Jobs) -> None:
    for array, text in (
        ("np.ones((4, 4))[:, 0]", "not C-contiguous"),
        ("np.array([None, 1], object)", "array of objects"),
    ):
        _, done = submit(
            jobs,
            f"""
def main(env):
    array = {array} if env.worker_id == 0 else np.ones(4)
    env.network.collectives().run(SUM, None, array)
""",
            workers=2,
        )
        assert done.code == 1, done
        assert "[T2-N503]" in done.err, done
        assert text in done.err, done


def test_a_function_that_raises(jobs: Jobs) -> None:
    _, done = submit(
        jobs,
        """
def worst(left, right):
    raise ZeroDivisionError("mine")
def main(env):
    env.network.collectives().run(Call("allreduce", worst), None, np.ones(4))
""",
    )
    assert done.code == 1, done
    assert "ZeroDivisionError" in done.err
    assert "worst" in done.err


def test_a_slow_worker_is_no_error_and_a_call_that_is_left_open_is_one(jobs: Jobs) -> None:
    _, done = submit(
        jobs,
        """
def main(env):
    total(env)
    time.sleep(6.5 if env.worker_id == 0 else 0)
    print(total(env)[0])
""",
        workers=2,
    )
    assert (done.code, done.out) == (0, "3.0\n3.0\n"), done
    program, done = submit(
        jobs,
        """
def main(env):
    total(env)
    while env.worker_id == 1 and not os.path.exists("begun"):
        time.sleep(0.01)
    request = env.network.collectives().start(SUM, None, np.ones(4))
    if env.worker_id == 1:
        request.wait()
    open("begun", "w").close()
""",
        workers=2,
    )
    assert done.code == 1, done
    assert "open call: allreduce" in done.err, done
    assert line_of(program, "request = env.network") in done.err
