"""The collectives' inputs, answers and timing loops: the same for every contestant."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

SIZES = {
    "full": {"8 B": 8, "1 KiB": 1 << 10, "64 KiB": 1 << 16, "1 MiB": 1 << 20, "8 MiB": 8 << 20, "64 MiB": 64 << 20},
    "small": {"8 B": 8, "1 KiB": 1 << 10, "64 KiB": 1 << 16},
}
CALLS = {"8 B": 400, "1 KiB": 400, "64 KiB": 200, "1 MiB": 40, "8 MiB": 15, "64 MiB": 4}
SMALL_CALLS = 50
TURNS = 5
"""How often two contestants of one process take turns in each case."""

Call = Callable[[], Any]
"""One collective call; gives what arrived, an array or a list of arrays, or None where nothing does."""
Maker = Callable[[Any, int], Call]
"""Makes the call from this rank's input and the number of elements it gets back (0: nothing)."""


class Ranks(Protocol):
    """What the loops need of a system beside the operations."""

    rank: int
    size: int

    def barrier(self) -> None: ...

    def largest(self, value: float) -> float: ...


def case(operation: str, nbytes: int, rank: int, size: int) -> tuple[Any, Any]:
    """Input and expected result of a rank; None where there is none.

    ``nbytes`` of float64 is what one rank gives, in all to all of its peers together; at least one number for each.
    """
    n = max(nbytes // 8, 1)
    if operation in ("alltoall", "reduce_scatter", "scatter"):
        n = max(n - n % size, size)
    base = np.arange(n, dtype=np.float64) % 1000
    mine, part = base + rank, slice(rank * (n // size), (rank + 1) * (n // size))
    total = base * size + sum(range(size))
    if operation == "barrier":
        return None, None
    if operation == "broadcast":
        return (base if rank == 0 else np.zeros(n)), base
    if operation == "scatter":
        return (base if rank == 0 else None), base[part]
    wanted: dict[str, Callable[[], Any]] = {
        "allreduce": lambda: total,
        "reduce": lambda: total if rank == 0 else None,
        "scan": lambda: base * (rank + 1) + sum(range(rank + 1)),
        "exscan": lambda: base * rank + sum(range(rank)),
        "reduce_scatter": lambda: total[part],
        "allgather": lambda: np.concatenate([base + other for other in range(size)]),
        "gather": lambda: np.concatenate([base + other for other in range(size)]) if rank == 0 else None,
        "alltoall": lambda: np.concatenate([(base + other)[part] for other in range(size)]),
    }
    return mine, wanted[operation]()


def right(operation: str, rank: int, got: Any, wanted: Any) -> bool:
    """Whether a result is the expected one. What an exclusive scan leaves on rank 0 is undefined."""
    if wanted is None or (operation == "exscan" and rank == 0):
        return True
    whole = np.concatenate([np.ravel(part) for part in got]) if isinstance(got, list) else np.ravel(got)
    return np.array_equal(whole, wanted)


def timed(call: Call, calls: int) -> tuple[float, Any]:
    """Median seconds of a call, and the last result."""
    spent, got = [], None
    for _ in range(calls):
        begin = time.perf_counter()
        got = call()
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent), got


def cases(makers: Mapping[str, Maker], bench_size: str) -> list[tuple[str, str, int, int]]:
    """Operation, label, bytes and number of calls; a barrier has no size."""
    sizes = SIZES[bench_size]
    found = []
    for operation in makers:
        for label in sizes if operation != "barrier" else ["8 B"]:
            calls = CALLS[label] if bench_size == "full" else SMALL_CALLS
            found.append((operation, label, sizes[label], calls))
    return found


def named(operation: str, label: str) -> str:
    """The name of a case."""
    return operation if operation == "barrier" else f"{operation} {label}"


def measure(makers: Mapping[str, Maker], ranks: Ranks, bench_size: str) -> dict[str, Any]:
    """The answer: median seconds of a call by case (of the slowest rank), and whether all results were right."""
    figures, good = {}, True
    for operation, label, nbytes, calls in cases(makers, bench_size):
        given, wanted = case(operation, nbytes, ranks.rank, ranks.size)
        call = makers[operation](given, 0 if wanted is None else len(wanted))
        timed(call, 2)
        ranks.barrier()
        median, got = timed(call, calls)
        good = right(operation, ranks.rank, got, wanted) and good
        ranks.barrier()
        figures[named(operation, label)] = ranks.largest(median)
    return {"right": not ranks.largest(float(not good)), "figures": figures}


def measure_two(
    ours: Mapping[str, Maker], theirs: Mapping[str, Maker], ranks: Ranks, bench_size: str
) -> dict[str, Any]:
    """The same with two contestants in turns: ``pairs`` has both medians by case."""
    pairs, good = {}, True
    for operation, label, nbytes, calls in cases(ours, bench_size):
        given, wanted = case(operation, nbytes, ranks.rank, ranks.size)
        n = 0 if wanted is None else len(wanted)
        both = [maker[operation](given, n) for maker in (ours, theirs)]
        medians: tuple[list[float], list[float]] = ([], [])
        for turn in range(TURNS + 1):
            for call, kept in zip(both, medians, strict=True):
                ranks.barrier()
                median, got = timed(call, max(3, calls // TURNS) if turn else 2)
                good = right(operation, ranks.rank, got, wanted) and good
                if turn:  # the first one warms up
                    kept.append(median)
        pairs[named(operation, label)] = [ranks.largest(statistics.median(kept)) for kept in medians]
    return {"right": not ranks.largest(float(not good)), "pairs": pairs}
