"""Word count at four levels in one program: worker, operators, task graph, TSet. All four answers must be equal.

twister2 submit standalone --workers 3 examples/wordcount_levels.py [FILE]
python examples/wordcount_levels.py [FILE] --workers 3
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections import Counter

import twister2
from twister2.graph import Graph
from twister2.spec.batch import Batch
from twister2.spec.tasks import END, Compute, Emit, EndOfData, Sink, Source
from twister2_net import allgather, count_by_value
from twister2_tset import TSetContext

TEXT = """the worker knows its number and the number of workers
the operator moves what the workers have to the worker that needs it
the graph joins tasks by operators and the set writes the graph
"""


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="wordcount_levels.py", description="Count words on four levels.")
    means.add_argument("file", nargs="?", type=pathlib.Path, help="a text; a short one of its own without")
    means.add_argument("--workers", type=int, default=3, help="worker processes, when run by python alone")
    return means


def at_worker_level(env: twister2.WorkerEnvironment, lines: list[str]) -> Counter[str]:
    """By hand: each worker counts its share, everybody gets everybody's counts."""
    mine = Counter(word for line in lines[env.worker_id :: env.n_workers] for word in line.split())
    total: Counter[str] = Counter()
    for part in env.network.exchange_objects(mine, what="counts"):
        total.update(part)
    return total


def at_operator_level(env: twister2.WorkerEnvironment, lines: list[str]) -> Counter[str]:
    """With operators: words are counted by value over all workers, then the parts are gathered everywhere."""
    words = [word for line in lines[env.worker_id :: env.n_workers] for word in line.split()]
    total: Counter[str] = Counter()
    for part in allgather(env, count_by_value(env, words)):
        total.update(part)
    return total


class Lines(Source):
    """The lines of one task."""

    def __init__(self, lines: list[str]) -> None:
        self.batches = iter([lines] if lines else [])

    def poll(self) -> Batch | EndOfData:
        return next(self.batches, END)


class Words(Compute):
    """Lines to (word, 1)."""

    narrow = True

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        emit([(word, 1) for line in batch for word in line.split()])


class Keep(Sink):
    """Keeps the pairs that end here."""

    def __init__(self) -> None:
        self.pairs: dict[str, int] = {}

    def write(self, batch: Batch, edge: str) -> None:
        self.pairs.update(batch)

    def output(self) -> dict[str, int]:
        return self.pairs


def at_graph_level(env: twister2.WorkerEnvironment, lines: list[str]) -> Counter[str]:
    """As a task graph of one's own."""
    graph = Graph("word count")
    graph.add_source("lines", lambda index: Lines(lines[index :: env.n_workers]), env.n_workers)
    graph.add_compute("words", lambda index: Words())
    graph.add_sink("counts", lambda index: Keep())
    graph.connect("lines", "words")
    graph.connect("words", "counts", "net.keyed_reduce", reducer="sum")
    mine = env.run(graph)["counts"]
    total: Counter[str] = Counter()
    for parts in allgather(env, mine):
        for part in parts:
            total.update(part)
    return total


def at_tset_level(env: twister2.WorkerEnvironment, lines: list[str]) -> Counter[str]:
    """As a set."""
    return Counter(dict(TSetContext(env).parallelize(lines).flat_map(str.split).count_by_value().collect()))


def main(env: twister2.WorkerEnvironment) -> dict[str, int]:
    """All four, one after the other, on the same workers."""
    options = parser().parse_args(env.args)
    lines = (options.file.read_text(encoding="utf-8") if options.file else TEXT).splitlines()
    answers = {
        "worker": at_worker_level(env, lines),
        "operators": at_operator_level(env, lines),
        "graph": at_graph_level(env, lines),
        "TSet": at_tset_level(env, lines),
    }
    for level, answer in answers.items():
        if answer != answers["worker"]:
            raise ValueError(f"the answer at level {level} differs: {answer} is not {answers['worker']}")
        if env.worker_id == 0:
            print(f"{level:>9}: {answer.total()} words, most frequent {answer.most_common(1)}")
    return dict(answers["TSet"])


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
