"""Members whose calls differ in one thing are told what to do about that thing, on every transport."""

from __future__ import annotations

import pathlib

import pytest

from twister2.worker.differences import REMEDIES
from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)

CASES = {
    "call": "harp.Barrier() if odd else harp.Allreduce(IN_PLACE, np.ones(4))",
    "spelling": "harp.allreduce(1) if odd else harp.Allreduce(IN_PLACE, np.ones(4))",
    "reducer": 'harp.Allreduce(IN_PLACE, np.ones(4), "max" if odd else "sum")',
    "root": "harp.Broadcast(np.ones(4), 1 if odd else 0)",
    "dtype": 'harp.Allreduce(IN_PLACE, np.ones(4, "f4" if odd else "f8"))',
    "shape": "harp.Allreduce(IN_PLACE, np.ones((2, 3) if odd else (3, 2)))",
    "n": "harp.Allgather(np.ones(5 if odd else 4), np.ones(10 if odd else 8))",
    "counts": "harp.Allgather(np.ones(4), [np.ones(8), [4, 4]] if odd else np.ones(8))",
    "algorithm": 'harp.Allreduce(IN_PLACE, np.ones(4), algorithm="ring" if odd else "tree")',
    "order": "harp.rotate(Table({0: 1}), [0, 1] if odd else [1, 0])",
}
UNFIT = "harp.Alltoall([np.ones(4), [1, 3]], [np.ones(4), [1, 3]]) if odd else "
UNFIT += "harp.Alltoall([np.ones(3), [1, 2]], [np.ones(2), [1, 1]])"
ROADS = {
    "tcp": ("job.comm=tcp",),
    "shm": ("job.comm=shm,tcp",),
    "mpi": ("job.comm=mpi",),
    "inproc": ("rm.standalone.workers_as=threads", "job.comm=inproc"),
}
PROGRAM = """
        import sys
        import numpy as np
        from twister2_harp import IN_PLACE, Harp, Table
        CASES = {cases!r}
        def main(env):
            harp = Harp(env)
            odd = harp.rank == 1
            harp.Allreduce(IN_PLACE, np.ones(4))
            exec(compile(CASES[env.args[0]], __file__, "exec"))
        """


def submit(jobs: Jobs, road: str, case: str):
    options = [word for option in ROADS[road] for word in ("-o", option)]
    program = jobs.program(PROGRAM.format(cases={**CASES, "unfit": UNFIT}))
    return jobs.submit(program, *options, workers=2, args=[case])


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("case", CASES)
def test_the_remedy_is_that_of_what_differs(jobs: Jobs, road: str, case: str) -> None:
    done = submit(jobs, road, case)
    assert done.code == 1, done
    assert "[T2-J406]" in done.err, done
    assert f"try:     {REMEDIES[case]}" in done.err, done


@pytest.mark.parametrize("road", ROADS)
def test_counts_that_do_not_fit_together(jobs: Jobs, road: str) -> None:
    done = submit(jobs, road, "unfit")
    assert done.code == 1, done
    assert "[T2-J406] worker 0 " in done.err, done
    assert "try:     let the counts of each member say what the others really send" in done.err, done
    assert "alltoall dtype=float64 counts=own" in done.err, done
    assert "prog.py" in done.err, done


def test_calls_at_two_lines_may_be_meant_to_be_different_ones(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import numpy as np
        from twister2_harp import IN_PLACE, Harp
        def main(env):
            harp = Harp(env)
            if env.worker_id:
                harp.Allreduce(IN_PLACE, np.ones(4))
            harp.Allreduce(IN_PLACE, np.ones(3))
        """
    )
    done = jobs.submit(program, "-o", "job.comm=tcp")
    assert done.code == 1, done
    assert f"try:     {REMEDIES['shape']}; if these were to be two different calls, let all" in done.err, done


def test_the_barrier_of_the_job_master_is_not_that_of_the_network(jobs: Jobs) -> None:
    program = jobs.program(
        """
        from twister2_harp import Harp
        def main(env):
            harp = Harp(env)
            harp.Barrier()
            env.barrier() if env.worker_id else harp.Barrier()
        """
    )
    done = jobs.submit(program, "-o", "job.comm=tcp", timeout_s=30)
    assert done.code == 1, done
    assert "[T2-J406]" in done.err, done
    assert f"try:     {REMEDIES['call']}" in done.err, done


@pytest.mark.parametrize(
    ("call", "texts"),
    [
        ("harp.Allreduce([1, 2], out)", ("a buffer is an array or [array, counts]",)),
        ("harp.rotate(Table(), [0, 0])", ("no permutation of the 2 ranks",)),
        ("harp.regroup({0: out})", ("regroup: table is {0: array", "not a Table", "Table(partitions")),
        ("harp.Allreduce(out, np.ones(3))", ("because: allreduce needs equally many in both", "harp.md", "'Sizes'")),
    ],
)
def test_wrong_arguments_are_told_with_the_line(jobs: Jobs, call: str, texts: tuple[str, ...]) -> None:
    program = jobs.program(
        f"""
        import numpy as np
        from twister2_harp import Harp, Table
        def main(env):
            harp, out = Harp(env), np.empty(2)
            {call}
        """
    )
    done = jobs.submit(program)
    line = next(number for number, text in enumerate(program.read_text().splitlines(), 1) if call in text)
    where = next(text for text in done.err.splitlines() if "where:" in text)
    assert f"{program}:{line}" in where, done
    assert "worker " in where, done
    for text in texts:
        assert text in done.err, done


def test_the_guide_has_the_section_that_errors_about_sizes_name() -> None:
    from twister2.worker.network.collectives.checking import _REMEDY

    page = next(word.strip("()") for word in _REMEDY.split() if ".md" in word)
    text = (pathlib.Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    assert f"### {_REMEDY.split(chr(39))[1]}\n" in text
