"""Joins of Arrow tables: net.join on two workers beside pyarrow's own join (Acero) and polars, in turns, checked.

    python benchmarks/micro/joins.py --rows 2000000 --rounds 5

Seconds are those of the join alone: the tables are in memory, at net each worker's share. pyarrow and polars use as
many threads as there are workers. polars is left out where it is not installed (``pip install polars``).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from typing import Any

import numpy
import pyarrow as pa
import pyarrow.compute as pc

import twister2

WORKERS = 2
KINDS = ("int64", "string")
HOWS = ("inner", "left", "full")


def side(name: str, rows: int, kind: str, seed: int) -> pa.Table:
    """A table of keys, about two rows each, and numbers."""
    chance = numpy.random.default_rng(seed)
    keys = pa.array(chance.integers(0, max(1, rows // 2), rows)).cast(kind)
    return pa.table({"key": keys, name: chance.integers(0, 1000, rows)})


def answer(parts: list[Any]) -> tuple[int, int, int]:
    """Rows, and the sums of both sides' numbers."""
    rows = sum(part.num_rows for part in parts)
    sums = [sum(pc.sum(part[name]).as_py() or 0 for part in parts) for name in ("left", "right")]
    return rows, sums[0], sums[1]


def program(env: Any) -> list[tuple[float, tuple[int, int, int]]]:
    """This worker's share of the rows, joined with all others'; the seconds and the answer of each round."""
    from twister2_net import join

    rows, rounds = int(env.args[0]), int(env.args[1])
    kind, how = env.args[2:]
    share = rows // env.n_workers
    left, right = (side(name, rows, kind, seed) for seed, name in enumerate(("left", "right")))
    mine = [table.slice(env.worker_id * share, share if env.worker_id < env.n_workers - 1 else rows) for table in
            (left, right)]  # fmt: skip
    found = []
    for _ in range(rounds):
        env.barrier()
        begin = time.perf_counter()
        got = join(env, *mine, how, left_key="key", right_key="key")
        env.barrier()
        found.append((time.perf_counter() - begin, answer(list(got.batches()))))
        got.close()
    return found


def by_net(rows: int, kind: str, how: str) -> tuple[float, tuple[int, int, int]]:
    """Once to warm up, once to measure."""
    results = twister2.run(program, args=[str(rows), "2", kind, how], workers=WORKERS)
    last = [result[-1] for result in results]
    return max(seconds for seconds, _ in last), tuple(map(sum, zip(*(found for _, found in last), strict=True)))  # type: ignore[return-value]


def by_arrow(left: pa.Table, right: pa.Table, how: str) -> tuple[float, tuple[int, int, int]]:
    """pyarrow.Table.join."""
    begin = time.perf_counter()
    got = left.join(right, "key", join_type={"full": "full outer", "left": "left outer"}.get(how, how))
    return time.perf_counter() - begin, answer([got])


def by_polars(left: pa.Table, right: pa.Table, how: str) -> tuple[float, tuple[int, int, int]]:
    """polars.DataFrame.join of the same memory."""
    import polars

    sides = [polars.from_arrow(table) for table in (left, right)]
    begin = time.perf_counter()
    got = sides[0].join(sides[1], on="key", how=how, coalesce=True)
    return time.perf_counter() - begin, answer([got.to_arrow()])


def main() -> int:
    """Measure, and print one JSON line per kind of key and way to join."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help="of each side")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    pa.set_cpu_count(WORKERS)
    contestants: dict[str, Any] = {"arrow": by_arrow}
    if importlib.util.find_spec("polars"):
        os.environ["POLARS_MAX_THREADS"] = str(WORKERS)
        contestants["polars"] = by_polars
    else:
        print("polars is not installed, and left out", file=sys.stderr)
    for kind in KINDS:
        left, right = (side(name, given.rows, kind, seed) for seed, name in enumerate(("left", "right")))
        for how in HOWS:
            seconds: dict[str, list[float]] = {"net": [], **{name: [] for name in contestants}}
            answers = set()
            for _ in range(given.rounds):
                took, found = by_net(given.rows, kind, how)
                seconds["net"].append(took)
                answers.add(found)
                for name, contestant in contestants.items():
                    took, found = contestant(left, right, how)
                    seconds[name].append(took)
                    answers.add(found)
            if len(answers) != 1:
                raise SystemExit(f"{kind} {how}: answers differ: {answers}")
            line = {name: round(statistics.median(some), 4) for name, some in seconds.items()}
            print(json.dumps({"key": kind, "how": how, "rows": given.rows, "answer": answers.pop(), **line}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
