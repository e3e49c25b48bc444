"""What the contestants of the keyed partition share: inputs, a bare socket pair, turns, the form of the answer."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from twister2.graph import Graph
from twister2.spec.tasks import END, Sink, Source

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment

BATCH = 8192
RECORDS = {"full": 1_000_000, "small": 50_000}
COLUMN_RECORDS = {"full": 8_000_000, "small": 200_000}
TURNS = 5
N_KEYS = 50_000
PAIR = np.dtype([("key", "i8"), ("value", "f8")])

Run = Callable[[], Iterable[Any]]
"""One exchange; gives the batches that arrived here."""


class Pair:
    """A bare PAIR socket between two workers."""

    def __init__(self, env: WorkerEnvironment) -> None:
        if env.n_workers != 2:
            raise SystemExit("the hand-written loop is for two workers")
        self.me = env.worker_id
        folder = tempfile.mkdtemp(prefix="t2b") if self.me == 0 else None
        where = f"ipc://{env.network.broadcast_object(folder)}/pair"
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.PAIR)
        self.socket.set_hwm(0)
        (self.socket.connect if self.me else self.socket.bind)(where)
        env.on_close(self._close)
        env.on_close(lambda: _remove(folder))

    def _close(self) -> None:
        self.socket.close(linger=0)
        self._context.term()


def _remove(folder: str | None) -> None:
    import shutil

    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def in_turns(env: WorkerEnvironment, ours: Run, theirs: Run, total: int, keys: Callable[[Any], set[Any]]) -> Any:
    """Million records a second of all workers together, of both, medians over turns; and whether all was right.

    :param total: records of all workers. :param keys: the keys of a batch: no two workers may have the same.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    good = True
    for turn in range(TURNS + 1):
        for run, kept in zip((ours, theirs), rates, strict=True):
            env.network.exchange_objects(None)
            begin = time.perf_counter()
            got = list(run())
            spent = time.perf_counter() - begin
            everybody = env.network.exchange_objects((sum(map(len, got)), spent))
            good = good and sum(count for count, _ in everybody) == total
            if turn:
                kept.append(total / 1e6 / max(spent for _, spent in everybody))
            else:  # the first one warms up
                sets = env.network.exchange_objects(set().union(*map(keys, got)))
                good = good and sum(map(len, sets)) == len(set().union(*sets))
    return [statistics.median(kept) for kept in rates], good


class _Ready(Source):
    """Gives batches that exist already."""

    def __init__(self, batches: list[Any]) -> None:
        self._left = list(reversed(batches))

    def poll(self) -> Any:
        return self._left.pop() if self._left else END


class _Keep(Sink):
    """Keeps batches."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def write(self, batch: Any, edge: str) -> None:
        self._kept.append(batch)

    def output(self) -> list[Any]:
        return self._kept


def through_graph(env: WorkerEnvironment, batches: list[Any], **options: Any) -> list[Any]:
    """The operator as the edge of a graph, from batches that exist to a list of those that arrive."""
    graph = Graph("keyed")
    graph.add_source("ready", lambda index: _Ready(batches), env.n_workers)
    graph.add_sink("keep", lambda index: _Keep(), env.n_workers)
    graph.connect("ready", "keep", "net.keyed_partition", **options)
    (kept,) = env.run(graph)["keep"]
    return list(kept)


def columns(env: WorkerEnvironment, records: int) -> Any:
    """This worker's pairs as a structured array."""
    table = np.empty(records, PAIR)
    table["key"] = np.random.default_rng(env.worker_id).integers(0, N_KEYS, records)
    table["value"] = np.arange(records)
    return table
