"""Operators on a weighted graph: degrees, means over neighbours, connected components, shortest paths from one vertex.

twister2 submit standalone --workers 4 examples/graph_operators.py --vertices 10000 --edges 12000
python examples/graph_operators.py roads.txt --start v17 --workers 4

A file has an edge per line: two vertices, and its length (1 when it is left out). Each vertex lives on the worker that
the hash of its name says. Values travel along the edges of the vertices whose own has changed; when an allreduce says
that none has changed anywhere, all workers leave the loop.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import twister2
from twister2_net import allreduce, gather, keyed_gather, keyed_reduce

Neighbours = dict[str, list[tuple[str, float]]]
"""Of each vertex that lives here: the vertices it is joined to, and how long the edges are."""


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="graph_operators.py", description="Compute on the vertices of a graph.")
    means.add_argument("input", nargs="?", type=pathlib.Path, help="a file with an edge per line: FROM TO [LENGTH]")
    means.add_argument("--vertices", type=int, default=1000, help="of a random graph, without INPUT")
    means.add_argument("--edges", type=int, default=1200, help="of a random graph, without INPUT")
    means.add_argument("--seed", type=int, default=1)
    means.add_argument("--start", help="where shortest paths begin (default: the vertex with most edges)")
    means.add_argument("--show", type=int, default=10, metavar="N", help="how many vertices to show")
    means.add_argument("--workers", type=int, default=2, help="worker processes, when run by python alone")
    return means


def edges(options: argparse.Namespace, rank: int, size: int) -> Iterator[tuple[str, str, float]]:
    """This worker's share of the edges."""
    if options.input is not None:
        for line in options.input.read_text(encoding="utf-8").splitlines()[rank::size]:
            if line.strip():
                one, other, *length = line.split()
                yield one, other, float(length[0]) if length else 1.0
        return
    numbers = random.Random(options.seed)
    for number in range(options.edges):
        one, other, length = numbers.randrange(options.vertices), numbers.randrange(options.vertices), numbers.random()
        if number % size == rank:
            yield f"v{one}", f"v{other}", round(1 + 9 * length, 2)


def neighbours_mean(env: twister2.WorkerEnvironment, graph: Neighbours, values: dict[str, float]) -> dict[str, float]:
    """For each vertex here the mean of its neighbours' values."""
    sent = [(other, (values[vertex], 1)) for vertex, joined in graph.items() for other, _ in joined]
    sums = keyed_reduce(env, sent, lambda a, b: (a[0] + b[0], a[1] + b[1]))
    return {vertex: total / count for vertex, (total, count) in sums.items()}


def spread(
    env: twister2.WorkerEnvironment, graph: Neighbours, values: dict[str, Any], along: Callable[[Any, float], Any]
) -> tuple[dict[str, Any], int]:
    """Let every vertex have the least of its own value and of ``along(value, length)`` of its neighbours.

    :returns: the values of the vertices here, and how often values were sent until none changed any more.
    """
    values, changed, rounds = dict(values), list(values), 0
    while allreduce(env, len(changed)):  # the same number on every worker, so all leave together
        sent = [(other, along(values[vertex], length)) for vertex in changed for other, length in graph[vertex]]
        best = keyed_reduce(env, sent, "min")
        changed = [vertex for vertex, value in best.items() if vertex not in values or value < values[vertex]]
        values.update((vertex, best[vertex]) for vertex in changed)
        rounds += 1
    return values, rounds


def main(env: twister2.WorkerEnvironment) -> int:
    """Run all operators, one after the other.

    :returns: number of connected components, on worker 0.
    """
    options = parser().parse_args(env.args)
    both_ways = [
        pair
        for one, other, length in edges(options, env.worker_id, env.n_workers)
        for pair in ((one, (other, length)), (other, (one, length)))
    ]
    graph: Neighbours = {vertex: list(joined) for vertex, joined in keyed_gather(env, both_ways)}
    if not allreduce(env, len(graph)):
        raise SystemExit("the graph has no edges")
    start = options.start or allreduce(env, max(((len(graph[v]), v) for v in graph), default=(0, "")), max)[1]
    if not allreduce(env, int(start in graph)):
        raise SystemExit(f"no edge has the vertex {start}")
    degrees = {vertex: float(len(joined)) for vertex, joined in graph.items()}
    means = neighbours_mean(env, graph, degrees)
    parts, rounds = spread(env, graph, {vertex: vertex for vertex in graph}, lambda part, length: part)
    ways, hops = spread(env, graph, {start: 0.0} if start in graph else {}, lambda way, length: way + length)
    here = [(vertex, degrees[vertex], means[vertex], parts[vertex], ways.get(vertex)) for vertex in graph]
    found = gather(env, here)
    if found is None:
        return 0
    rows = sorted(row for part in found for row in part)
    sizes = Counter(row[3] for row in rows)
    print(f"{len(rows):,} vertices, {sum(row[1] for row in rows) / 2:,.0f} edges")
    print(f"{len(sizes)} components after {rounds} rounds, largest {sizes.most_common(3)}")
    print(f"{sum(row[4] is not None for row in rows):,} vertices can be reached from {start}, after {hops} rounds\n")
    print(f"{'vertex':<10} degree  mean of neighbours  {'component':<10}  distance from {start}")
    for vertex, degree, mean, part, way in rows[: options.show]:
        print(f"{vertex:<10} {degree:6.0f}  {mean:18.3f}  {part:<10}  {'-' if way is None else f'{way:.2f}'}")
    return len(sizes)


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
