"""mpi4py: Counter over bytes.split() per rank, exchanged by a hash of the word, the top words gathered."""

# benchmark: venv=mpich launch=mpiexec packages=mpi4py,mpich
from __future__ import annotations

import zlib
from collections import Counter

from harness.contest import Contest
from harness.wordcount import TOP, byte_ranges, count_range, summary
from mpi4py import MPI

world = MPI.COMM_WORLD
contest = Contest(reporter=world.rank == 0)
path = contest.input("words", ".txt")


def job() -> dict[str, object] | None:
    outgoing: list[dict[bytes, int]] = [{} for _ in range(world.size)]
    for word, count in count_range(path, *byte_ranges(path, world.size)[world.rank]).items():
        outgoing[zlib.crc32(word) % world.size][word] = count
    mine: Counter[bytes] = Counter()
    for part in world.alltoall(outgoing):
        mine.update(part)
    parts = world.gather(summary(mine))
    if parts is None:
        return None
    top = sorted((pair for part in parts for pair in part["top"]), key=lambda pair: (-pair[1], pair[0]))
    return {"top": top[:TOP], **{key: sum(part[key] for part in parts) for key in ("distinct", "total")}}


contest.report(contest.run(job))
