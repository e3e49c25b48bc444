"""Graphs of any shape for tests of executors, and what a plain loop makes of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
from hypothesis import strategies as st

from twister2.graph import Graph
from twister2_testkit.world_tasks import Apply, Diary, Keep, Numbers

if TYPE_CHECKING:
    from collections.abc import Callable

Pair = tuple[str, int]


@attrs.frozen
class Shape:
    """A graph in layers.

    :ivar sources: per source, per task, its batches. :ivar computes: per compute, its parallelism and the vertices and
        operators of its inputs. :ivar sink: parallelism of the one sink.
    """

    sources: tuple[tuple[tuple[tuple[Pair, ...], ...], ...], ...]
    computes: tuple[tuple[int, tuple[tuple[str, str], ...]], ...]
    sink: int

    def parallelism(self, vertex: str) -> int:
        """Number of tasks of ``s<k>`` or ``c<k>``."""
        number = int(vertex[1:])
        return len(self.sources[number]) if vertex[0] == "s" else self.computes[number][0]

    def ends(self) -> list[str]:
        """Vertices that nothing else reads."""
        read = {name for _, inputs in self.computes for name, _ in inputs}
        names = [f"s{k}" for k in range(len(self.sources))] + [f"c{k}" for k in range(len(self.computes))]
        return [name for name in names if name not in read]

    def build(self, diary: Diary) -> Graph:
        """The graph; compute ``k`` adds ``k + 1`` to every value."""
        graph = Graph("shape")
        for number, tasks in enumerate(self.sources):
            graph.add_source(f"s{number}", _numbers(diary, tasks), len(tasks))
        for number, (parallelism, inputs) in enumerate(self.computes):
            graph.add_compute(f"c{number}", _adds(diary, number + 1), parallelism, narrow=True)
            for source, operator in inputs:
                graph.connect(source, f"c{number}", f"world.{operator}")
        graph.add_sink("sink", lambda index: Keep(diary), self.sink)
        for name in self.ends():
            graph.connect(name, "sink", "world.keyed")
        return graph

    def expected(self) -> Counter[Pair]:
        """What arrives at the sink, over all its tasks."""
        held: dict[str, Counter[Pair]] = {
            f"s{number}": Counter(pair for task in tasks for batch in task for pair in batch)
            for number, tasks in enumerate(self.sources)
        }
        for number, (parallelism, inputs) in enumerate(self.computes):
            total: Counter[Pair] = Counter()
            for source, operator in inputs:
                copies = parallelism if operator == "broadcast" else 1
                for (key, value), count in held[source].items():
                    total[key, value + number + 1] += count * copies
            held[f"c{number}"] = total
        return sum((held[name] for name in self.ends()), Counter())


def _numbers(diary: Diary, tasks: Any) -> Callable[[int], Numbers]:
    return lambda index: Numbers(diary, [list(batch) for batch in tasks[index]])


def _adds(diary: Diary, amount: int) -> Callable[[int], Apply]:
    return lambda index: Apply(diary, lambda pair: (pair[0], pair[1] + amount))


_PAIRS = st.tuples(st.sampled_from("abcdef"), st.integers(0, 5))
_BATCHES = st.lists(st.lists(_PAIRS, max_size=4).map(tuple), max_size=6).map(tuple)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Any small graph."""
    sources = tuple(
        tuple(draw(st.lists(_BATCHES, min_size=1, max_size=4)))
        for _ in range(draw(st.integers(1, 2)))
    )  # fmt: skip
    known = {f"s{number}": len(tasks) for number, tasks in enumerate(sources)}
    computes = []
    for number in range(draw(st.integers(0, 4))):
        parallelism = draw(st.integers(1, 4))
        names = draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=2, unique=True))
        inputs = []
        for name in names:
            operators = ["keyed", "broadcast"]
            operators += ["direct"] * 3 if known[name] == parallelism else []
            operators += ["gather"] if parallelism == 1 else []
            inputs.append((name, draw(st.sampled_from(operators))))
        known[f"c{number}"] = parallelism
        computes.append((parallelism, tuple(inputs)))
    return Shape(sources, tuple(computes), draw(st.integers(1, 3)))
