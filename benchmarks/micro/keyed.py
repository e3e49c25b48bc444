"""A keyed partition between two workers against a hand-written loop, in turns, in the same two processes.

``python benchmarks/micro/keyed.py [--records 1000000] [--rounds 5] [--comm tcp]``

*hand*: each worker puts the pairs of every batch into two lists by ``hash(key) & 1``, pickles the other worker's list,
sends it over a bare PAIR socket (ipc) and loads what comes. *twister2*: the operator ``net.keyed_partition`` on the
job's transport. Figures are millions of records per second of both workers together, medians over rounds: for pairs of
(int, int), (str, int) and for columns of (int64, float64): record batches, in the hand-written loop structured arrays
that are sent as their memory.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy
import pyarrow
import zmq

import twister2
from twister2.graph import Graph
from twister2.spec.tasks import END, Sink, Source

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 8192


class Ready(Source):
    """Gives batches that exist already."""

    def __init__(self, batches: list[Any]) -> None:
        self.left = list(reversed(batches))

    def poll(self) -> Any:
        """The next one."""
        return self.left.pop() if self.left else END


class Count(Sink):
    """Counts records."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, batch: Any, edge: str) -> None:
        """Count a batch."""
        self.count += len(batch)

    def output(self) -> int:
        """How many."""
        return self.count


def batches(kind: str, worker: int, records: int) -> list[Any]:
    """What a worker gives."""
    first = worker * records
    if kind == "columns":
        table = numpy.empty(records, [("key", "i8"), ("value", "f8")])
        table["key"] = numpy.random.default_rng(worker).integers(0, 100_000, records)
        table["value"] = numpy.arange(records)
        cut = [table[at : at + 16 * BATCH].copy() for at in range(0, records, 16 * BATCH)]
        return cut
    if kind == "str":
        pairs: list[Any] = [(f"key{number * 7919 % 50_000}", 1) for number in range(first, first + records)]
    else:
        pairs = [(number * 7919 % 50_000, number) for number in range(first, first + records)]
    return [pairs[at : at + BATCH] for at in range(0, records, BATCH)]


def arrow(table: Any) -> Any:
    """The same columns as a record batch."""
    return pyarrow.RecordBatch.from_arrays([pyarrow.array(table[name]) for name in ("key", "value")], ["key", "value"])


def by_hand(socket: Any, me: int, given: list[Any]) -> int:
    """The hand-written loop; how many records arrived here."""
    count = ended = 0
    for batch in [*given, None]:
        if batch is None:
            socket.send(b"")
        elif isinstance(batch, numpy.ndarray):
            where = batch["key"] & 1
            count += len(batch[where == me])
            socket.send(batch[where != me], copy=False)
        else:
            parts: list[list[Any]] = [[], []]
            add = [part.append for part in parts]
            for pair in batch:
                add[hash(pair[0]) & 1](pair)
            count += len(parts[me])
            socket.send(pickle.dumps(parts[1 - me], 5))
        while not ended and (batch is None or socket.poll(0)):
            data = socket.recv(copy=False).buffer
            if not len(data):
                ended = 1
            elif given and isinstance(given[0], numpy.ndarray):
                count += len(numpy.frombuffer(data, given[0].dtype))
            else:
                count += len(pickle.loads(data))
    return count


def program(env: Any) -> dict[str, list[tuple[float, float]]]:
    """Both contestants, in turns."""
    folder, records, rounds = env.args[0], int(env.args[1]), int(env.args[2])
    me = env.worker_id
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.set_hwm(0)
    where = f"ipc://{folder}/pair"
    (socket.connect if me else socket.bind)(where)
    seconds: dict[str, list[tuple[float, float]]] = {}

    def timed(run: Callable[[], int]) -> float:
        env.network.exchange_objects(None)
        begin = time.perf_counter()
        count = run()
        took: list[tuple[float, int]] = env.network.exchange_objects((time.perf_counter() - begin, count))
        assert sum(n for _, n in took) == 2 * records
        return max(spent for spent, _ in took)

    for kind in env.args[3].split(","):
        given = batches(kind, me, records)

        mine = [arrow(batch) for batch in given] if kind == "columns" else given

        def twister(kind: str = kind, mine: list[Any] = mine) -> int:
            graph = Graph("keyed")
            graph.add_source("ready", lambda index: Ready(mine), 2)
            graph.add_sink("count", lambda index: Count(), 2)
            options = {"columns": ["key"]} if kind == "columns" else {}
            graph.connect("ready", "count", "net.keyed_partition", **options)
            (count,) = env.run(graph)["count"]
            return int(count)

        seconds[kind] = [(timed(lambda given=given: by_hand(socket, me, given)), timed(twister)) for _ in range(rounds)]
    socket.close(linger=0)
    context.term()
    return seconds


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=500_000, help="of each worker")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--comm", default="tcp")
    parser.add_argument("--kinds", default="int,str,columns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="t2b") as folder:
        os.chmod(folder, 0o700)
        arguments = [folder, str(options.records), str(options.rounds), options.kinds]
        results = twister2.run(program, workers=2, args=arguments, config={"job": {"comm": [options.comm]}})
    print(f"{'records':10} {'hand M/s':>9} {'twister2':>9} {'ratio':>6} {'of bests':>8}")
    for kind, pairs in results[0].items():
        hand, ours = ([2 * options.records / 1e6 / spent for spent in column] for column in zip(*pairs, strict=True))
        middle = statistics.median(hand), statistics.median(ours)
        ratio, bests = middle[1] / middle[0], max(ours) / max(hand)
        print(f"{kind:10} {middle[0]:9.2f} {middle[1]:9.2f} {ratio:6.2f} {bests:8.2f}")


if __name__ == "__main__":
    main()
