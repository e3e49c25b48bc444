"""Planning takes time in proportion to the size of a graph: a thousand vertices, ten thousand partitions."""

from __future__ import annotations

import time

import pytest

from twister2.graph import Catalog, Graph
from twister2.graph.compile import compile_graph
from twister2.graph.explain import explain_plan
from twister2.spec.tasks import Compute, Sink
from twister2_testkit.executor_bench import InTurn
from twister2_testkit.world import World
from twister2_testkit.world_ops import WorldOperators

CATALOG = Catalog(lambda name: WorldOperators())
WORKERS = World(8).infos


class Step(Compute):
    narrow = True

    def __init__(self, index):
        pass

    def process(self, batch, emit, edge):
        emit(batch)


class Silent(Sink):
    def __init__(self, index):
        pass

    def write(self, batch, edge):
        return


def no_source(index):
    raise AssertionError("not made here")


def chain(length, parallelism=10, every=0):
    """Direct edges, but for one in ``every``."""
    graph = Graph("chain")
    graph.add_source("source", no_source, parallelism)
    before = "source"
    for number in range(length):
        graph.add_compute(f"m{number}", Step)
        graph.connect(before, f"m{number}", "world.direct" if not every or number % every else "world.keyed")
        before = f"m{number}"
    graph.add_sink("sink", Silent)
    graph.connect(before, "sink", "world.keyed")
    return graph


def fan(length, parallelism=10):
    """Everything out of one vertex and into another."""
    graph = Graph("fan")
    graph.add_source("source", no_source, parallelism)
    graph.add_sink("sink", Silent)
    for number in range(length):
        graph.add_compute(f"m{number}", Step)
        graph.connect("source", f"m{number}", "world.direct")
        graph.connect(f"m{number}", "sink", "world.keyed")
    return graph


def parallel_edges(length, parallelism=10):
    """Many edges of one name between two vertices, and many vertices of one name."""
    graph = Graph("parallel")
    graph.add_source("source", no_source, parallelism)
    graph.add_sink("sink", Silent)
    for _ in range(length):
        graph.connect("source", "sink", "world.keyed")
        graph.keep("source", "world.direct", name="same")
    return graph


def everything(build, *args, **options):
    """Seconds of this process for building, planning and explaining."""
    begin = time.process_time()
    graph = build(*args, **options)
    compiled = compile_graph(graph, workers=WORKERS, scheduler=InTurn(), catalog=CATALOG)
    explain_plan(compiled, CATALOG)
    return time.process_time() - begin


@pytest.mark.parametrize(
    ("build", "size", "options"),
    [
        (chain, 1000, {}),
        (chain, 1000, {"every": 1}),
        (chain, 1000, {"every": 2}),
        (fan, 1000, {}),
        (parallel_edges, 500, {}),
        (chain, 3, {"parallelism": 10_000}),
        (chain, 3, {"parallelism": 10_000, "every": 1}),
    ],
    ids=["one chain", "no chain", "short chains", "fan", "equal names", "partitions", "partitions shuffled"],
)
def test_it_takes_less_than_a_second(build, size, options):
    # It takes about 0.05 s on a slow machine, so that load does not matter; what is quadratic would take many.
    assert everything(build, size, **options) < 1.0


@pytest.mark.parametrize("build", [chain, fan, parallel_edges])
def test_eight_times_as_much_takes_about_eight_times_as_long(build):
    small = min(everything(build, 500) for _ in range(3))
    large = min(everything(build, 4000) for _ in range(2))
    assert large < 30 * small + 0.1, f"{small:.3f} s for 500, {large:.3f} s for 4,000"
