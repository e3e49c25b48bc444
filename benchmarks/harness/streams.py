"""Streams of large messages through a transport and by hand, in turns between the same two processes."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq
from micro.transport import Bare, Ours

from harness.contest import Contest

SIZES = {
    "full": {"64 KiB": (1 << 16, 4000), "1 MiB": (1 << 20, 800), "16 MiB": (16 << 20, 60)},
    "small": {"64 KiB": (1 << 16, 200), "1 MiB": (1 << 20, 20)},
}
"""By label: bytes of a message, and how many go one way in a turn."""
SEGMENT = {"full": (64 << 20, 20), "small": (1 << 20, 20)}
TURNS = 5

Stream = Callable[[int, int, int], "tuple[float, bool]"]
"""Rank, bytes of a message, number of messages: seconds until the last one was acknowledged, whether all were right."""

Job = Callable[[int, str, Any], "dict[str, Any]"]
"""Rank, a private folder, and a pipe to the other process: the answer of a rank."""


def through(end: Bare | Ours, made: dict[int, list[Any]]) -> Stream:
    """A stream of two messages that take turns; the reader looks at length and both ends of each."""

    def stream(rank: int, size: int, count: int) -> tuple[float, bool]:
        begin, good = time.perf_counter(), True
        if rank == 0:
            both = made.get(size) or [bytes([1 + number]) * size for number in (0, 1)]
            for number in range(count):
                end.send(both[number & 1])
            good = bytes(end.receive(1)) == b"k"
        else:
            for number in range(count):
                got = end.receive(size)
                good = good and len(got) == size and int(got[0]) == int(got[-1]) == 1 + (number & 1)
                del got
            end.send(b"k")
        return time.perf_counter() - begin, good

    return stream


class Segment:
    """Memory that two processes map, with all pages there already; what is in it is told through a pipe."""

    def __init__(self, nbytes: int, *, copies: bool) -> None:
        self._copies = copies
        self._maps = [mmap.mmap(-1, nbytes), mmap.mmap(-1, nbytes)]
        self._views = [np.frombuffer(each, np.uint8) for each in self._maps]
        self._given = [np.full(nbytes, 1 + number, np.uint8) for number in (0, 1)]
        for view, given in zip(self._views, self._given, strict=True):
            view[:] = given
        self._down, self._up = os.pipe(), os.pipe()

    def stream(self, rank: int, size: int, count: int) -> tuple[float, bool]:
        """As :data:`Stream`: at most two messages are under way."""
        begin, good = time.perf_counter(), True
        for number in range(count):
            if rank == 0:
                if number > 1:
                    os.read(self._up[0], 1)
                if self._copies:
                    np.copyto(self._views[number & 1], self._given[number & 1])
                os.write(self._down[1], b"m")
            else:
                os.read(self._down[0], 1)
                got = self._views[number & 1]
                good = good and len(got) == size and int(got[0]) == int(got[-1]) == 1 + (number & 1)
                os.write(self._up[1], b"k")
        if rank == 0:
            for _ in range(min(2, count)):
                os.read(self._up[0], 1)
        return time.perf_counter() - begin, good

    def close(self) -> None:
        """Close the pipes; the memory goes with the last view."""
        for end in (*self._down, *self._up):
            os.close(end)


def in_turns(rank: int, cases: dict[str, tuple[int, int, Stream, Stream]]) -> dict[str, Any]:
    """The answer of a rank: by case the GB/s of both, medians over turns, and whether all was right."""
    pairs, right = {}, True
    for label, (size, count, *both) in cases.items():
        rates: tuple[list[float], list[float]] = ([], [])
        for turn in range(TURNS + 1):
            for stream, kept in zip(both, rates, strict=True):
                spent, good = stream(rank, size, count if turn else 2)
                right = right and good
                if turn:  # the first one warms up
                    kept.append(size * count / spent / 1e9)
        pairs[label] = [statistics.median(kept) for kept in rates]
    return {"right": right, "pairs": pairs}


def sockets(kind: str, bench_size: str) -> Job:
    """comm_tcp over ``ipc``, ``tcp`` or ``curve`` beside a PAIR socket of the same kind."""
    keys = [zmq.curve_keypair() for _ in range(2)]
    port = 20_000 + os.getpid() % 20_000

    def job(rank: int, folder: str, pipe: Any) -> dict[str, Any]:
        bare, ours = Bare(rank, kind, folder, keys, port), Ours(rank, kind, folder, keys, pipe)
        cases = {
            f"{label} messages": (size, count // (4 if kind == "curve" else 1), through(ours, {}), through(bare, {}))
            for label, (size, count) in SIZES[bench_size].items()
        }
        answer = in_turns(rank, cases)
        bare.close()
        ours.close()
        return answer

    return job


def shared_memory(bench_size: str) -> Job:
    """comm_shm beside copies into a warm segment, and memory of its own beside memory that both map."""
    from twister2_comm_shm.config import ShmConfig
    from twister2_comm_shm.transport import ShmTransport

    size, count = SEGMENT[bench_size]
    copied, mapped = Segment(size, copies=True), Segment(size, copies=False)
    config = ShmConfig(pool_bytes=max(ShmConfig().pool_bytes, 8 * size))
    keys = [zmq.curve_keypair() for _ in range(2)]

    def job(rank: int, folder: str, pipe: Any) -> dict[str, Any]:
        ours = Ours(rank, "shm", folder, keys, pipe, lambda context: ShmTransport(config, context))
        born: list[Any] = []
        if rank == 0:
            for number in (0, 1):
                memory = ours.transport.allocate(size)
                assert memory is not None
                np.frombuffer(memory, np.uint8)[:] = 1 + number
                born.append(memory)
        label = f"{size >> 20} MiB"
        cases = {
            f"{label} arrays, copied in": (size, count, through(ours, {}), copied.stream),
            f"{label} arrays, born shared": (size, count, through(ours, {size: born}), mapped.stream),
        }
        answer = in_turns(rank, cases)
        born.clear()
        ours.close()
        return answer

    return job


def main(kind: str) -> None:
    """The workload: ``kind`` is ``ipc``, ``tcp``, ``curve`` or ``shm``."""
    contest = Contest()
    if contest.workers != 2:
        raise SystemExit("a stream has two ends")
    job = shared_memory(contest.size) if kind == "shm" else sockets(kind, contest.size)
    folder = tempfile.mkdtemp(prefix="t2b")
    mine, theirs = multiprocessing.Pipe()

    def other() -> None:
        theirs.send(job(1, folder, theirs))

    process = multiprocessing.get_context("fork").Process(target=other)
    process.start()
    try:

        def both() -> dict[str, Any]:
            here = job(0, folder, mine)
            there = mine.recv()
            return {"right": here["right"] and there["right"], "pairs": here["pairs"]}

        answer = contest.run(both)
    finally:
        process.join(10)
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)
    contest.report(answer)
