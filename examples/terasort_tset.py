"""TeraSort at TSet level: make records of 100 bytes, sort them by their first 10, write them, and check the files.

twister2 submit standalone --workers 4 examples/terasort_tset.py --records 1_000_000 --output sorted
python examples/terasort_tset.py --records 200_000 --workers 2 --output sorted

Three phases, each one set: ``generate`` writes files, ``sort`` reads them and writes sorted ones, ``validate`` reads
those. Records stay columns of numpy all the way; ``examples/terasort.py`` does the same with arrays and operators.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import sys
import time
from typing import Any

import numpy as np

import twister2
from twister2_tset import TSet, TSetContext

RECORD = np.dtype([("key", "S10"), ("value", "S90")])
"""Text, so that no byte is 0: numpy takes zeros at the end of an ``S`` for the end of its text."""
BLOCK = 10_000
"""Records that are made from one seed."""


Summary = tuple[int, int, bool, bytes, bytes]


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="terasort_tset.py", description="Generate, sort and validate records.")
    means.add_argument("--records", type=int, default=200_000)
    means.add_argument(
        "--output",
        metavar="DIR",
        default="terasort",
        help="folder for the files of all phases, replaced when there (default: terasort)",
    )
    means.add_argument("--partitions", type=int, help="files of each phase (default: one per worker)")
    means.add_argument("--seed", type=int, default=1)
    means.add_argument("--workers", type=int, default=2, help="worker processes, when run by python alone")
    return means


def block(seed: int, begin: int, end: int) -> Any:
    """Records ``begin`` to ``end``: random printable keys, and values that begin with the record's number."""
    letters = np.random.default_rng((seed, begin)).integers(33, 127, (end - begin, 10), "u1")
    records = np.empty(end - begin, RECORD)
    records["key"] = letters.view("S10")[:, 0]
    records["value"] = [b"%089d." % number for number in range(begin, end)]
    return records


def summary(records: Any) -> list[Summary]:
    """Of a batch: number, a sum over all bytes that no order changes, whether it is in order, first and last key."""
    weights = np.arange(1, RECORD.itemsize + 1, dtype="u8")
    each = np.ascontiguousarray(records).view("u1").reshape(-1, RECORD.itemsize) @ weights
    keys = records["key"]
    ordered = bool((keys[1:] >= keys[:-1]).all())
    return [(len(records), int((each * each).sum(dtype="u8")), ordered, bytes(keys[0]), bytes(keys[-1]))]


def summaries(records: TSet[Any]) -> list[Summary]:
    """Those of all batches that have records, in order of partitions."""
    return records.map_batches(lambda batch: summary(batch) if len(batch) else [], form="numpy").collect()


def totals(parts: list[Summary]) -> tuple[int, int]:
    """Number of all records, and the sum over their bytes."""
    return sum(part[0] for part in parts), sum(part[1] for part in parts) % 2**64


def main(env: twister2.WorkerEnvironment) -> int:
    """Run the three phases.

    :returns: number of records that were found sorted.
    """
    options = parser().parse_args(env.args)
    made, ordered = (str(pathlib.Path(options.output, name)) for name in ("generated", "sorted"))
    context = TSetContext(env, partitions=options.partitions, name="terasort")
    began = time.perf_counter()

    def done(phase: str) -> None:
        nonlocal began
        if env.worker_id == 0:
            print(f"{phase:<8}  {time.perf_counter() - began:6.2f} s", flush=True)
        began = time.perf_counter()

    starts = context.parallelize(range(0, options.records, BLOCK))
    blocks = starts.map_batches(
        lambda batch: np.concatenate(
            [block(options.seed, begin, min(options.records, begin + BLOCK)) for begin in batch]
        )
    )
    blocks.write_binary(made, overwrite=True)
    done("generate")
    records = context.read_binary(made, dtype=RECORD)
    records.sort("key").write_binary(ordered, overwrite=True)
    done("sort")
    before, after = summaries(records), summaries(context.read_binary(ordered, dtype=RECORD))
    if not all(part[2] for part in after) or any(one[4] > other[3] for one, other in itertools.pairwise(after)):
        raise SystemExit("the files are not in order")
    if (found := totals(after)) != totals(before):
        raise SystemExit("the sorted records are not those that were generated")
    done("validate")
    if env.worker_id == 0:
        print(f"{found[0]:,} records sorted by {env.n_workers} workers, in order and complete: {ordered}")
        if after:
            print(f"first key {after[0][3].decode()}  last key {after[-1][4].decode()}")
    return found[0]


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
