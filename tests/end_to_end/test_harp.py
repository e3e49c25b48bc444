"""Harp in whole jobs, over every transport between processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(90)

PROGRAM = """
import numpy
from twister2_harp import Harp, Table

def main(env):
    harp = Harp(env)
    harp.events.send((harp.rank + 1) % harp.size, harp.rank)
    came = harp.events.wait(20)
    array = env.empty_shared(1 << 15)
    array[:] = harp.rank
    everybody = harp.allgather(array)
    array[:] = 70
    harp.Barrier()
    seen = [int(part.max()) for part in everybody]
    table = harp.rotate(Table({harp.rank: numpy.ones(4)}))
    print("rank", harp.rank, came.value, seen, sorted(table))
"""


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path) as jobs:
        yield jobs


@pytest.mark.parametrize("comm", ["shm", "tcp", pytest.param("mpi", marks=pytest.mark.needs_mpi)])
def test_events_shared_arrays_and_rotation(jobs: Jobs, tmp_path: Path, comm: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = jobs.submit(program, "-o", f"job.comm={comm}", workers=3)
    assert done.code == 0, done
    for rank in range(3):
        before = (rank - 1) % 3
        assert f"rank {rank} {before} [0, 1, 2] [{before}]" in done.out
