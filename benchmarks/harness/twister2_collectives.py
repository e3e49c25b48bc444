"""Harp's collectives, for the contestants that differ in the transport only (imports Twister2, so for those only)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.collectives import Call, Maker, measure
from harness.contest import Contest
from twister2_harp import Harp

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


class HarpRanks:
    """What the timing loops need."""

    def __init__(self, harp: Harp) -> None:
        self.rank, self.size, self._harp = harp.rank, harp.size, harp
        self._one, self._most = np.empty(1), np.empty(1)

    def barrier(self) -> None:
        self._harp.Barrier()

    def largest(self, value: float) -> float:
        self._one[0] = value
        self._harp.Allreduce(self._one, self._most, "max")
        return float(self._most[0])


def makers(harp: Harp, empty: Any = np.empty) -> dict[str, Maker]:
    """All collectives on arrays that ``empty`` makes."""

    def born(given: Any) -> Any:
        if given is None:
            return None
        array = empty(len(given))
        array[:] = given
        return array

    def two(name: str) -> Maker:
        def make(given: Any, n: int) -> Call:
            operation, send, receive = getattr(harp, name), born(given), empty(n) if n else None

            def call() -> Any:
                operation(send, receive)
                return receive

            return call

        return make

    def broadcast(given: Any, n: int) -> Call:
        array = born(given)

        def call() -> Any:
            harp.Broadcast(array)
            return array

        return call

    def barrier(given: Any, n: int) -> Call:
        return harp.Barrier

    names = ("allreduce", "allgather", "alltoall", "reduce", "scan", "exscan", "reduce_scatter", "gather", "scatter")
    of = {name: two(name.capitalize()) for name in names}
    return {"allreduce": of.pop("allreduce"), "broadcast": broadcast, **of, "barrier": barrier}


def run(env: WorkerEnvironment, *, shared: bool = False) -> None:
    """The workload."""
    contest, harp = Contest(env.args, reporter=env.worker_id == 0), Harp(env)
    harp.Barrier()
    of = makers(harp, env.empty_shared if shared else np.empty)
    contest.report(contest.run(lambda: measure(of, HarpRanks(harp), contest.size)))


def main(env: WorkerEnvironment) -> None:
    """The program of a contestant that imports it."""
    run(env)
