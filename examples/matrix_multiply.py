"""A @ B by rotation: every worker has some rows of A and of B; the rows of B pass by all workers, one hop a time.

twister2 submit standalone --workers 4 examples/matrix_multiply.py --size 2000
python examples/matrix_multiply.py --workers 4

No worker ever holds more than its share of B and the one that is on its way: while it multiplies, the next share
arrives.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import numpy.typing as npt

import twister2
from twister2_harp import Harp, Table

Array = npt.NDArray[np.float64]


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="matrix_multiply.py", description="Multiply two random square matrices.")
    means.add_argument("--size", type=int, default=1000)
    means.add_argument("--seed", type=int, default=1)
    means.add_argument("--workers", type=int, default=2, help="worker processes, when run by python alone")
    return means


def rows_of(rank: int, n_ranks: int, size: int) -> slice:
    """The rows of one worker: contiguous, as equal as can be."""
    return slice(rank * size // n_ranks, (rank + 1) * size // n_ranks)


def block(seed: int, rows: slice, size: int) -> Array:
    """Some rows of a random matrix; the same wherever they are made."""
    return np.stack([np.random.default_rng((seed, row)).random(size) for row in range(rows.start, rows.stop)])


def main(env: twister2.WorkerEnvironment) -> float:
    """Multiply, and check the trace of the product against another way to compute it."""
    options = parser().parse_args(env.args)
    harp, size = Harp(env), options.size
    if size < harp.size:
        raise SystemExit(f"a matrix of {size} rows cannot be spread over {harp.size} workers")
    mine = rows_of(harp.rank, harp.size, size)
    a = block(options.seed, mine, size)
    table = Table({harp.rank: block(options.seed + 1, mine, size)})
    product = np.zeros_like(a)
    started = time.perf_counter()
    for turn in range(harp.size):
        ((owner, b),) = table.items()
        moving = harp.irotate(table) if turn + 1 < harp.size else None
        product += a[:, rows_of(owner, harp.size, size)] @ b
        if moving is not None:
            table = moving.wait()
    seconds = harp.allreduce(time.perf_counter() - started, "max")
    trace = harp.allreduce(float(np.trace(product, offset=mine.start)))
    if harp.rank == 0:
        rate = 2 * size**3 / seconds / 1e9
        print(f"{size} x {size} on {harp.size} workers: {seconds:.3f} s, {rate:.1f} GFLOP/s, trace {trace:.6f}")
    return trace


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
