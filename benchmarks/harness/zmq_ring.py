"""Collectives by hand on bare pyzmq sockets: what plain sockets give (imports pyzmq, so for its contestants only)."""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq

from harness.collectives import Call, measure
from harness.contest import Contest

SMALL = 64 << 10
"""Up to this size each rank sends to all others; beyond, reductions go around a ring."""


class Ring:
    """A PAIR socket for each direction between two ranks."""

    def __init__(self, rank: int, size: int, address: Callable[[int, int], str]) -> None:
        self.rank, self.size = rank, size
        self._context = zmq.Context()
        self._out: dict[int, Any] = {}
        self._in: dict[int, Any] = {}
        others = [other for other in range(size) if other != rank]
        for other in others:
            self._out[other] = self._context.socket(zmq.PAIR)
            self._out[other].bind(address(rank, other))
        for other in others:
            self._in[other] = self._context.socket(zmq.PAIR)
            self._in[other].connect(address(other, rank))

    def send(self, other: int, array: Any) -> None:
        self._out[other].send(array, copy=array.nbytes < SMALL)

    def receive(self, other: int) -> Any:
        return np.frombuffer(self._in[other].recv(copy=False), dtype=np.float64)

    def send_all(self, array: Any) -> None:
        for other in self._out:
            self.send(other, array)

    def barrier(self) -> None:
        self.largest(0.0)

    def largest(self, value: float) -> float:
        self.send_all(np.array([value]))
        return max([value] + [float(self.receive(other)[0]) for other in self._in])

    def close(self) -> None:
        self._context.destroy(linger=2000)


def allreduce(ring: Ring, given: Any) -> Call:
    rank, size = ring.rank, ring.size
    after, before = (rank + 1) % size, (rank - 1) % size

    def small() -> Any:
        ring.send_all(given)
        total = given.copy()
        for other in range(size):
            if other != rank:
                total += ring.receive(other)
        return total

    def large() -> Any:  # a chunk that was sent is overwritten only by what its receiver made of it
        total = given.copy()
        chunks = np.array_split(total, size)
        for turn in range(size - 1):
            ring.send(after, chunks[(rank - turn) % size])
            chunks[(rank - turn - 1) % size] += ring.receive(before)
        for turn in range(size - 1):
            ring.send(after, chunks[(rank + 1 - turn) % size])
            chunks[(rank - turn) % size][:] = ring.receive(before)
        return total

    return small if given.nbytes <= SMALL else large


def makers(ring: Ring) -> dict[str, Any]:
    rank, size = ring.rank, ring.size

    def broadcast(given: Any, n: int) -> Call:
        def call() -> Any:
            if rank == 0:
                ring.send_all(given)
                return given
            return ring.receive(0)

        return call

    def allgather(given: Any, n: int) -> Call:
        def call() -> Any:
            ring.send_all(given)
            return [given if other == rank else ring.receive(other) for other in range(size)]

        return call

    def alltoall(given: Any, n: int) -> Call:
        parts = np.split(given, size)

        def call() -> Any:
            for other in range(size):
                if other != rank:
                    ring.send(other, parts[other])
            return [parts[rank] if other == rank else ring.receive(other) for other in range(size)]

        return call

    return {
        "allreduce": lambda given, n: allreduce(ring, given),
        "broadcast": broadcast,
        "allgather": allgather,
        "alltoall": alltoall,
    }


def _run(rank: int, size: int, bench_size: str, where: Any, pipe: Any) -> None:
    ring = Ring(rank, size, lambda one, other: str(where[one][other]))
    answer = measure(makers(ring), ring, bench_size)
    if rank == 0:
        pipe.send(answer)
    ring.barrier()
    ring.close()


def main(kind: str) -> None:
    """The workload over ``ipc`` or ``tcp``."""
    contest = Contest()
    size = contest.workers
    with tempfile.TemporaryDirectory() as folder:
        if kind == "ipc":
            where = [[f"ipc://{folder}/{one}-{other}" for other in range(size)] for one in range(size)]
        else:
            taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(size * size)]
            ports = [each.getsockname()[1] for each in taken]
            for each in taken:
                each.close()
            where = [[f"tcp://127.0.0.1:{ports[one * size + other]}" for other in range(size)] for one in range(size)]
        context = multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()

        def job() -> Any:
            ranks = [
                context.Process(target=_run, args=(rank, size, contest.size, where, theirs)) for rank in range(size)
            ]
            for rank in ranks:
                rank.start()
            answer = mine.recv()
            for rank in ranks:
                rank.join()
            return answer

        contest.report(contest.run(job))
