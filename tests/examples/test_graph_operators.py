"""Operators on graphs as whole jobs, against plain Python on the same random graphs."""

from __future__ import annotations

import heapq
import random
import re
import time
from collections import defaultdict
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)

Graph = dict[str, list[tuple[str, float]]]


def random_graph(seed: int) -> tuple[list[str], Graph]:
    """Lines of a file, and the neighbours of each vertex: some edges twice, some from a vertex to itself."""
    numbers, graph, lines = random.Random(seed), defaultdict(list), ["", "lonely lonely"]
    graph["lonely"] = [("lonely", 1.0)] * 2
    for _ in range(70):
        one, other = (f"n{numbers.randrange(60)}" for _ in range(2))
        length = numbers.choice([0.5, 1.0, 2.25, 7.0])
        lines.append(f"{one} {other}" if length == 1.0 else f"{one}\t{other}  {length}")
        graph[one].append((other, length))
        graph[other].append((one, length))
    return lines, graph


def component(graph: Graph, vertex: str) -> str:
    seen, front = {vertex}, [vertex]
    while front:
        new = {other for each in front for other, _ in graph[each]} - seen
        seen |= new
        front = list(new)
    return min(seen)


def distances(graph: Graph, start: str) -> dict[str, float]:
    """Dijkstra's."""
    done, queue = {}, [(0.0, start)]
    while queue:
        way, vertex = heapq.heappop(queue)
        if vertex not in done:
            done[vertex] = way
            for other, length in graph[vertex]:
                heapq.heappush(queue, (way + length, other))
    return done


@pytest.mark.parametrize("workers", [1, 3])
def test_every_vertex_has_what_plain_python_finds(
    jobs: Jobs, examples: Path, transport: tuple[str, ...], tmp_path: Path, workers: int
) -> None:
    seed = time.time_ns()
    print(f"random graph {seed}")
    lines, graph = random_graph(seed)
    (tmp_path / "edges.txt").write_text("\n".join(lines))
    start = random.Random(seed).choice(sorted(graph))
    args = [str(tmp_path / "edges.txt"), "--start", start, "--show", "1000"]
    done = jobs.submit(examples / "graph_operators.py", *transport, workers=workers, args=args)
    assert done.code == 0, done
    ways = distances(graph, start)
    degrees = {vertex: len(joined) for vertex, joined in graph.items()}
    expected = {
        vertex: [
            str(degrees[vertex]),
            f"{sum(degrees[other] for other, _ in joined) / len(joined):.3f}",
            component(graph, vertex),
            f"{ways[vertex]:.2f}" if vertex in ways else "-",
        ]
        for vertex, joined in graph.items()
    }
    rows = [line.split() for line in done.out.split("distance from ")[1].splitlines()[1:]]
    assert {row[0]: row[1:] for row in rows} == expected
    assert [row[0] for row in rows] == sorted(graph)
    parts = {row[2] for row in expected.values()}
    assert f"{len(graph)} vertices, 71 edges\n{len(parts)} components" in done.out
    assert f"\n{len(ways)} vertices can be reached from {start}," in done.out


def test_a_graph_of_its_own(jobs: Jobs, examples: Path) -> None:
    done = jobs.python(examples / "graph_operators.py", "--vertices", "40", "--edges", "30", "--show", "2")
    assert done.code == 0, done
    assert re.search(r"^\d+ vertices, 30 edges$", done.out, re.MULTILINE)
    assert len(done.out.split("distance from ")[1].splitlines()) == 3


@pytest.mark.parametrize(("text", "args", "says"), [("\n", [], "has no edges"), ("a b", ["--start", "c"], "vertex c")])
def test_nothing_to_do(jobs: Jobs, examples: Path, tmp_path: Path, text: str, args: list[str], says: str) -> None:
    (tmp_path / "edges.txt").write_text(text)
    done = jobs.submit(examples / "graph_operators.py", args=[str(tmp_path / "edges.txt"), *args])
    assert done.code != 0, done
    assert says in done.err
