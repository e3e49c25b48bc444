"""TeraSort: sort records of 100 bytes by their first 10, from files to files, on any number of workers.

twister2 submit standalone --workers 4 examples/terasort.py --records 4_000_000 --output sorted
python examples/terasort.py --records 1_000_000 --workers 2 --output sorted

Every worker reads (or makes) its share, a range partition by a sample brings each record to the worker of its range,
and every worker sorts what it got and writes ``part-00000``, ``part-00001``... Then the files are read again and
checked: in order within and between files, and the same records as went in.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

import numpy as np
import numpy.typing as npt

import twister2
from twister2_net import allgather, allreduce, broadcast, partition

RECORD = np.dtype([("prefix", ">u8"), ("suffix", ">u2"), ("payload", "V90")])
"""The key is the first ten bytes; as two big-endian numbers it has the order of the bytes."""
BLOCK = 10_000
"""Records that are made from one seed, so that a record is the same whoever makes it."""

Records = npt.NDArray[np.void]


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="terasort.py", description="Sort fixed-size records by their keys.")
    means.add_argument("--records", type=int, default=1_000_000, help="how many to make, without --input")
    means.add_argument("--input", type=pathlib.Path, metavar="FILE", help="a file of records of 100 bytes")
    means.add_argument("--output", type=pathlib.Path, metavar="DIR", required=True, help="folder for the sorted files")
    means.add_argument("--seed", type=int, default=1)
    means.add_argument("--workers", type=int, default=2, help="worker processes, when run by python alone")
    return means


def made(seed: int, begin: int, end: int) -> Records:
    """Records number ``begin`` to ``end`` of those of a seed."""
    records = np.empty(end - begin, RECORD)
    at = begin
    while at < end:
        block = at // BLOCK
        until = min(end, (block + 1) * BLOCK)
        whole = np.frombuffer(np.random.default_rng((seed, block)).bytes(BLOCK * RECORD.itemsize), RECORD)
        records[at - begin : until - begin] = whole[at - block * BLOCK : until - block * BLOCK]
        at = until
    return records


def share(options: argparse.Namespace, rank: int, size: int) -> Records:
    """This worker's part of the input."""
    total = options.records
    if options.input is not None:
        n_bytes = options.input.stat().st_size
        total, rest = divmod(n_bytes, RECORD.itemsize)
        if rest:
            raise SystemExit(f"{options.input} has {n_bytes} bytes, which is no multiple of {RECORD.itemsize}")
    begin, end = rank * total // size, (rank + 1) * total // size
    if options.input is None:
        return made(options.seed, begin, end)
    return np.fromfile(options.input, RECORD, end - begin, offset=begin * RECORD.itemsize)


def sort(records: Records) -> Records:
    """The records in the order of their keys."""
    prefix = records["prefix"].astype("u8")  # the machine's own order of bytes, which sorts faster
    order = np.argsort(prefix)
    prefix = prefix[order]
    if (prefix[1:] == prefix[:-1]).any():  # the last two bytes decide; rare among random keys
        order = np.lexsort((records["suffix"], records["prefix"]))
    return records.take(order)  # seven times as fast as records[order]


def fingerprint(records: Records) -> npt.NDArray[np.uint64]:
    """Number of records and a sum over all their bytes that does not depend on their order."""
    words = records.view("V100").view("u1").reshape(-1, RECORD.itemsize)
    weights = np.arange(1, RECORD.itemsize + 1, dtype="u8")
    total = np.uint64(0)
    for begin in range(0, len(words), BLOCK):
        of_records = words[begin : begin + BLOCK] @ weights  # changes when bytes of a record change places
        total += (of_records * of_records).sum(dtype="u8")
    return np.array([len(records), total], "u8")


def check(path: pathlib.Path) -> tuple[npt.NDArray[np.uint64], list[tuple[int, int]]]:
    """Read a file again.

    :returns: its fingerprint, and its first and last key when it has records.
    :raises SystemExit: it is not sorted.
    """
    records = np.fromfile(path, RECORD)
    prefix, suffix = records["prefix"].astype("u8"), records["suffix"].astype("u2")
    ordered = (prefix[1:] > prefix[:-1]) | ((prefix[1:] == prefix[:-1]) & (suffix[1:] >= suffix[:-1]))
    if not ordered.all():
        raise SystemExit(f"{path} is not sorted at record {int(np.flatnonzero(~ordered)[0]) + 1}")
    return fingerprint(records), [(int(prefix[at]), int(suffix[at])) for at in (0, -1)] if len(records) else []


def main(env: twister2.WorkerEnvironment) -> int:
    """Sort and check.

    :returns: number of records in this worker's file.
    """
    options = parser().parse_args(env.args)
    phases: dict[str, float] = {}
    began = 0.0

    def done(phase: str) -> None:
        nonlocal began
        phases[phase] = allreduce(env, time.perf_counter() - began, "max")
        began = time.perf_counter()

    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"part-{env.worker_id:05d}"
    broadcast(env)
    began = time.perf_counter()
    records = share(options, env.worker_id, env.n_workers)
    before = fingerprint(records)
    done("read" if options.input else "make")
    records = partition(env, records, "range", key="prefix")
    done("partition")
    records = sort(records)
    done("sort")
    records.tofile(path)
    count = len(records)
    del records
    done("write")
    after, ends = check(path)
    keys = [key for worker in allgather(env, ends) for key in worker]
    if keys != sorted(keys):
        raise SystemExit("the files are not in order")
    if not np.array_equal(allreduce(env, before), total := allreduce(env, after)):
        raise SystemExit("the sorted records are not those that went in")
    done("check")
    if env.worker_id == 0:
        n_records, seconds = int(total[0]), phases["partition"] + phases["sort"]
        print(f"{n_records:,} records sorted by {env.n_workers} workers, checked")
        print(", ".join(f"{phase} {spent:.2f} s" for phase, spent in phases.items()))
        print(f"partition and sort: {n_records * RECORD.itemsize / seconds / 1e6:,.0f} MB/s")
    return count


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
