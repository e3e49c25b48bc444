"""Raw mpi4py calls, for the contestants that differ in the MPI library only (imports mpi4py, so for those only)."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.collectives import Call, Maker, measure
from harness.contest import Contest


class MpiRanks:
    """What the timing loops need."""

    def __init__(self, world: Any) -> None:
        self.rank, self.size, self._world = world.rank, world.size, world

    def barrier(self) -> None:
        self._world.Barrier()

    def largest(self, value: float) -> float:
        return max(self._world.allgather(value))


def makers(world: Any) -> dict[str, Maker]:
    """All collectives of a communicator on buffers."""

    def two(name: str) -> Maker:
        def make(given: Any, n: int) -> Call:
            operation, receive = getattr(world, name), np.empty(n) if n else None

            def call() -> Any:
                operation(given, receive)
                return receive

            return call

        return make

    def broadcast(given: Any, n: int) -> Call:
        array = given.copy()

        def call() -> Any:
            world.Bcast(array)
            return array

        return call

    def barrier(given: Any, n: int) -> Call:
        return world.Barrier  # type: ignore[no-any-return]

    names = {
        **{"allreduce": "Allreduce", "allgather": "Allgather", "alltoall": "Alltoall", "reduce": "Reduce"},
        **{"scan": "Scan", "exscan": "Exscan", "reduce_scatter": "Reduce_scatter_block"},
        **{"gather": "Gather", "scatter": "Scatter"},
    }
    return {**{name: two(method) for name, method in names.items()}, "broadcast": broadcast, "barrier": barrier}


def main() -> None:
    """The workload."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    contest, of = Contest(reporter=world.rank == 0), makers(world)
    contest.report(contest.run(lambda: measure(of, MpiRanks(world), contest.size)))
