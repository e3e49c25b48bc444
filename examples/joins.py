"""The four joins of two tables in CSV, each result as a table: what has no partner shows what they are good for.

twister2 submit standalone --workers 4 examples/joins.py --how full
python examples/joins.py customers.csv orders.csv --key id --workers 4

Without files it has a table of customers and one of orders.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import Any, Literal

from pyarrow import csv

import twister2
from twister2_tset import TSet, TSetContext

CUSTOMERS = """id,name,town
1,Ada,Ulm
2,Max,Jena
3,Eva,Bonn
5,Kai,Ulm
"""
ORDERS = """id,item,price
1,ink,3.5
1,pens,12.0
3,paper,4.25
4,lamp,30.0
5,desk,199.0
"""
HOWS: list[Literal["inner", "left", "right", "full"]] = ["inner", "left", "right", "full"]


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="joins.py", description="Join two tables in all ways.")
    means.add_argument("left", nargs="?", metavar="LEFT.csv", help="a table with the column --key")
    means.add_argument("right", nargs="?", metavar="RIGHT.csv", help="another")
    means.add_argument("--key", default="id", help="the column that both have")
    means.add_argument("--how", choices=[*HOWS, "all"], default="all")
    means.add_argument("--algorithm", choices=["hash", "sort"], default="hash", help="the answer is the same")
    means.add_argument("--workers", type=int, default=2, help="worker processes, when run by python alone")
    return means


def read(context: TSetContext, path: str | None, text: str) -> TSet[dict[str, Any]]:
    """The table of a file, or of this program's own text, on the workers."""
    if path:
        return context.read_csv(path).cache()
    return context.parallelize(csv.read_csv(io.BytesIO(text.encode()))).cache()


def flat(key: str, left: Sequence[str], right: Sequence[str]) -> Any:
    """A function that makes one row of what a join gives; what a side does not have is None."""

    def row(pair: tuple[Any, tuple[dict[str, Any] | None, dict[str, Any] | None]]) -> list[Any]:
        value, (one, other) = pair
        return [value, *((one or {}).get(name) for name in left), *((other or {}).get(name) for name in right)]

    return row


def main(env: twister2.WorkerEnvironment) -> dict[str, list[list[Any]]]:
    """Join, and show each result as a table.

    :returns: the rows of each join, the same on every worker.
    """
    options = parser().parse_args(env.args)
    context = TSetContext(env, name="joins")
    if options.left and not options.right:
        raise SystemExit("give two tables, or none")
    left, right = read(context, options.left, CUSTOMERS), read(context, options.right, ORDERS)
    columns = [[name for name in table.first(default={}) if name != options.key] for table in (left, right)]
    answers = {}
    for how in HOWS if options.how == "all" else [options.how]:
        joined = left.key_by(options.key).join(right.key_by(options.key), how, algorithm=options.algorithm)
        rows = joined.map(flat(options.key, *columns)).collect()
        answers[how] = sorted(rows, key=lambda row: [(value is None, str(value)) for value in row])
        if env.worker_id == 0:
            print(f"{how} join, {len(rows)} rows\n{table([options.key, *columns[0], *columns[1]], answers[how])}\n")
    return answers


def table(header: list[str], rows: list[list[Any]]) -> str:
    """Rows under a header; ``-`` where there is no value."""
    cells = [header, *(["-" if value is None else str(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
