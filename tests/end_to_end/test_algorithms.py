"""The guide's tables of roads and algorithms are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from twister2.spec.collectives import OPERATIONS
from twister2.worker.network.collectives.choice import ALGORITHMS, choose
from twister2_testkit.jobs import Jobs

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "harp.md").read_text(encoding="utf-8")
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose head begins so, the head first."""
    table = GUIDE[GUIDE.index(f"| {first} |") :].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "---" not in line]


def test_the_table_says_what_is_chosen() -> None:
    head, *table = rows("call")
    places = [re.fullmatch(r"(\d+) ranks, (\d+) (\w+)", cell) for cell in head[1:]]
    assert len(places) == 5
    assert [row[0].strip("`") for row in table] == list(OPERATIONS)
    for operation, *names in ((row[0].strip("`"), *row[1:]) for row in table):
        for place, name in zip(places, names, strict=True):
            assert place is not None
            nbytes = int(place[2]) * UNITS[place[3]]
            assert name == choose(operation, nbytes, int(place[1]), equal=True, whole=False), (operation, place[0])
            assert name in ALGORITHMS[operation]


@pytest.mark.parametrize(
    ("comm", "large"), [("tcp", "by messages"), ("shm,tcp", "native"), ("mpi", "native")], ids=["tcp", "shm", "mpi"]
)
def test_what_transports_take_natively(jobs: Jobs, comm: str, large: str) -> None:
    program = jobs.program(
        """
        import numpy as np
        from twister2.spec.errors import OperatorError
        from twister2_harp import Harp
        def main(env):
            harp = Harp(env)
            for n in (64 << 10, (64 << 10) + 8):
                give, into = np.ones(n // 8), np.empty(n // 8)
                harp.Allreduce(give, into)
                assert (into == 2).all()
                form = harp.collectives._recent[id(harp._call("allreduce", "sum", 0))]
                print(n, form.road or "by messages")
            print("native of any size:", "native" in harp.collectives.algorithms("allreduce"))
            env.barrier()  # who fails first aborts the other
            harp.Allreduce(give, into, algorithm="native")
            print("took it")
        """
    )
    done = jobs.submit(program, "-o", f"job.comm={comm}")
    assert done.out.count("65536 native") == 2, done
    assert done.out.count(f"65544 {large}") == 2, done
    assert done.out.count(f"native of any size: {large == 'native'}") == 2, done
    if large == "native":
        assert (done.code, done.out.count("took it")) == (0, 2), done
        return
    assert done.code == 1, done
    assert "allreduce cannot go the road 'native' here" in done.err, done
    assert (
        "up to 64 KiB from a member to another, ops by name, no counts; this call has parts of 65544 bytes" in done.err
    )


def test_the_table_of_transports_is_complete() -> None:
    known = sorted(path.name.removeprefix("comm_") for path in (Path(__file__).parents[2] / "plugins").glob("comm_*"))
    assert sorted(row[0].strip("`").removeprefix("comm.") for row in rows("transport")[1:]) == known
