"""Rewriting, parallelism, planning, explaining, fingerprints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types

import numpy
import pytest

from twister2.graph import Catalog, Graph
from twister2.graph.compile import compile_graph
from twister2.graph.explain import explain_plan, workers_text
from twister2.graph.fused import FusedFactory
from twister2.graph.rewrite import RULES, Rule, rewrite
from twister2.spec.errors import GraphError, PluginError, PluginIncompleteError
from twister2.spec.plan import Placement
from twister2.spec.tasks import Compute, Sink, TaskContext
from twister2_testkit.executor_bench import InTurn
from twister2_testkit.world import World
from twister2_testkit.world_ops import WorldOperators

CATALOG = Catalog(lambda name: WorldOperators())


class Times(Compute):
    narrow = True

    def __init__(self, index, factor=2):
        self.factor = factor
        self.seen = []

    def open(self, context: TaskContext):
        self.seen.append(f"open {context.vertex}")

    def process(self, batch, emit, edge):
        self.seen.append(edge)
        emit([record * self.factor for record in batch])

    def finish(self, emit):
        emit([self.factor])

    def close(self):
        self.seen.append("close")


class Silent(Sink):
    def __init__(self, index):
        pass

    def write(self, batch, edge):
        return


def no_source(index):
    raise AssertionError("not made here")


def chain(length=3, parallelism=2, **graph_options):
    graph = Graph("chain", **graph_options)
    graph.add_source("source", no_source, parallelism)
    before = "source"
    for number in range(length):
        graph.add_compute(f"m{number}", Times, shows=f"times {number}")
        graph.connect(before, f"m{number}", "world.direct")
        before = f"m{number}"
    graph.add_sink("sink", Silent)
    graph.connect(before, "sink", "world.keyed")
    return graph


def compiled(graph, n_workers=2, planned=None):
    workers = World(n_workers).infos
    return compile_graph(graph, workers=workers, scheduler=InTurn(), catalog=CATALOG, planned=planned)


def names(plan):
    return [vertex.name for vertex in plan.vertices]


def test_narrow_chains_become_one_vertex():
    result = compiled(chain())
    assert names(result.plan) == ["source", "m0+m1+m2", "sink"]
    assert [(e.number, e.sources, e.target) for e in result.plan.edges] == [
        (0, ("source",), "m0+m1+m2"),
        (1, ("m0+m1+m2",), "sink"),
    ]
    assert result.plan.vertex("m0+m1+m2").shows == "times 0 > times 1 > times 2"
    assert [applied.rule for applied in result.applied] == ["fuse"]


def test_rules_can_be_left_out_and_unknown_ones_are_refused():
    assert len(names(compiled(chain(without_rules=["fuse"])).plan)) == 5
    with pytest.raises(GraphError, match="'fusion'"):
        compiled(chain(without_rules=["fusion"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.connect("m0", "sink", "world.keyed"),
        lambda graph: graph.connect("source", "m1", "world.direct"),
        lambda graph: graph.place("m1", [1, 1]),
    ],
    ids=["two ways out", "two ways in", "another place"],
)
def test_what_is_not_one_chain_stays_apart(change):
    graph = chain(2)
    change(graph)
    assert names(compiled(graph).plan) == ["source", "m0", "m1", "sink"]


def test_wide_computes_and_other_operators_stay_apart():
    graph = Graph()
    graph.add_source("source", no_source, 2)
    graph.add_compute("a", Times)
    graph.add_compute("b", Times, narrow=False)
    graph.add_compute("c", Times)
    graph.add_compute("d", Times)
    graph.add_sink("sink", Silent)
    for one, other, op in (
        ("source", "a", "direct"),
        ("a", "b", "direct"),
        ("b", "c", "direct"),
        ("c", "d", "keyed"),
        ("d", "sink", "direct"),
    ):
        graph.connect(one, other, f"world.{op}")
    assert names(compiled(graph).plan) == ["source", "a", "b", "c", "d", "sink"]


def test_a_fixed_chain_keeps_its_place():
    graph = chain(2)
    graph.place("m0", [1, 0])
    graph.place("m1", [1, 0])
    requests = []

    class Keeping(InTurn):
        def schedule(self, request):
            requests.append(request)
            return super().schedule(request)

    compile_graph(graph, workers=World(2).infos, scheduler=Keeping(), catalog=CATALOG)
    assert requests[0].fixed == {"m0+m1": (1, 0)}


def test_a_fused_task_gives_what_the_parts_give():
    task = compiled(chain()).plan.vertex("m0+m1+m2").make(0)
    out = []

    def emit(batch, edge=None):
        out.append(batch)

    context = types.SimpleNamespace
    task.computes[0].seen.clear()
    task.open(TaskContext("m0+m1+m2", 0, 1, 0, 1, 1, "job", 1, {}, None, None, context))
    task.process([1, 2], emit, "source->m0")
    task.finish(emit)
    task.close()
    assert out == [[8, 16], [8], [4], [2]]
    assert task.computes[0].seen == ["open m0", "source->m0", "close"]
    assert task.computes[1].seen == ["open m1", "m0->m1", "m0->m1", "close"]
    with pytest.raises(GraphError, match="'elsewhere'"):
        task._emits[0]([1], "elsewhere")


def test_a_fused_task_keeps_the_state_of_its_parts():
    class Counts(Times):
        total = 0

        def process(self, batch, emit, edge):
            self.total += len(batch)
            emit(batch)

        def snapshot(self):
            return str(self.total).encode() if self.factor else None

        def restore(self, state):
            self.total = int(state)

        def counters(self):
            return {"seen": self.total}

    factory = FusedFactory(("a", "b"), ("a->b",), (lambda index: Counts(index), lambda index: Counts(index, 0)))
    first, second = factory(0), factory(0)
    first.process([1, 2, 3], lambda batch, edge=None: None, "in")
    assert first.counters() == {"seen": 6}
    second.restore(first.snapshot())
    assert [part.total for part in second.computes] == [3, 0]
    silent = FusedFactory(("a", "b"), ("a->b",), (Times, Times))(0)
    assert silent.snapshot() is None


def test_a_rule_of_ones_own_is_applied():
    class Rename(Rule):
        name = "rename"
        explanation = "for the test"

        def apply(self, plan, catalog):
            return plan, ["did nothing"]

    from twister2.graph.logical import logical_plan

    _, applied = rewrite(logical_plan(chain(), 2, CATALOG), CATALOG, ["fuse"], {**RULES, "rename": Rename()})
    assert [(one.rule, one.text) for one in applied] == [("rename", "did nothing")]


def test_parallelism_has_sensible_defaults():
    graph = Graph()
    graph.add_source("source", no_source)
    graph.add_compute("map", Times)
    graph.add_compute("all", Times)
    graph.add_sink("sink", Silent)
    graph.connect("source", "map", "world.direct")
    graph.connect("map", "all", "world.gather")
    graph.connect("all", "sink", "world.direct")
    plan = compiled(graph, 3).plan
    assert {vertex.name: vertex.parallelism for vertex in plan.vertices} == {"source": 3, "map": 3, "all": 1, "sink": 1}


def test_a_one_to_one_edge_needs_equal_parallelism():
    graph = Graph()
    graph.add_source("source", no_source, 2)
    graph.add_sink("sink", Silent, 3)
    graph.connect("source", "sink", "world.direct")
    with pytest.raises(GraphError, match="2 tasks of 'source' to 3 of 'sink'"):
        compiled(graph)


@pytest.mark.parametrize("workers", [(0,), (0, 5), ()])
def test_a_scheduler_that_misplaces_is_caught(workers):
    class Wrong(InTurn):
        def schedule(self, request):
            return Placement({**super().schedule(request).workers, "source": workers})

    with pytest.raises(PluginIncompleteError, match=r"Wrong placed 'source'"):
        compile_graph(chain(), workers=World(2).infos, scheduler=Wrong(), catalog=CATALOG)


def test_what_a_backend_returns_is_checked_where_it_is_used():
    class Silent(InTurn):
        def schedule(self, request):
            return None

    with pytest.raises(PluginIncompleteError, match=r"Silent returned None from schedule\(\)"):
        compile_graph(chain(), workers=World(2).infos, scheduler=Silent(), catalog=CATALOG)

    class NoOperators(WorldOperators):
        def catalog(self):
            return None

    with pytest.raises(PluginIncompleteError, match=r"NoOperators returned None from catalog\(\)"):
        Catalog(lambda name: NoOperators()).of("world")


def test_what_a_backend_raises_is_its_own_fault_and_its_line_is_named():
    class Divides(InTurn):
        def schedule(self, request):
            return super().schedule(request) if len(request.workers) // 0 else None

    with pytest.raises(PluginError, match=r"Divides raised ZeroDivisionError in schedule\(\)") as caught:
        compile_graph(chain(), workers=World(2).infos, scheduler=Divides(), catalog=CATALOG)
    assert re.search(r"test_planning.py:\d+ in schedule$", caught.value.where)
    assert "ZeroDivisionError" in caught.value.details["traceback"]

    graph = chain()
    graph.scheduler = Divides()
    with pytest.raises(ZeroDivisionError):  # the program's own
        compile_graph(graph, workers=World(2).infos, scheduler=InTurn(), catalog=CATALOG)

    class Speechless(InTurn):
        def explain(self, request):
            return request.nothing

    with pytest.raises(PluginError, match=r"Speechless raised AttributeError in explain\(\)"):
        compile_graph(chain(), workers=World(2).infos, scheduler=Speechless(), catalog=CATALOG)


def test_planned_sources_know_hosts_and_get_what_was_planned():
    graph = Graph()
    given = []
    graph.add_source("source", lambda index, planned: given.append((index, planned)), 2, planner=lambda: None)
    graph.add_sink("sink", Silent)
    graph.connect("source", "sink", "world.direct")
    planned = types.SimpleNamespace(hosts=lambda parallelism: {k: f"host{k}" for k in range(parallelism)})
    plan = compiled(graph, planned={"source": planned}).plan
    assert plan.vertex("source").hosts == {0: ("host0",), 1: ("host1",)}
    plan.vertex("source").make(1)
    assert given == [(1, planned)]
    with pytest.raises(GraphError, match="hosts of type list"):
        compiled(graph, planned={"source": types.SimpleNamespace(hosts=["here"])})


def test_a_plan_prints():
    text = explain_plan(compiled(chain(), 2), CATALOG)
    assert "plan chain: batch" in text
    assert "m0+m1+m2" in text
    assert "times 0 > times 1 > times 2" in text
    assert "world.keyed" in text
    assert "fuse: m0 > m1 > m2 run as one task" in text
    assert "placement: InTurn" in text
    assert "0-1" in text
    assert all(len(row) <= 200 for row in text.splitlines())


def test_a_graph_prints_without_an_environment():
    text = chain().explain()
    assert "graph chain: batch" in text
    assert text.index("source") < text.index("m0") < text.index("sink")


def test_names_in_options_are_shown():
    graph = Graph("names")
    graph.add_source("a", PROGRAM.strip, 1)
    graph.add_sink("b", PROGRAM.strip)
    graph.connect("a", "b", "net.aggregate", key=["k", "x"], aggregates={"t": ("v", "sum")}, bounds=list(range(9)))
    assert "key=('k', 'x'), aggregates={t: ('v', 'sum')}, bounds=list" in graph.explain()


def test_explain_in_an_environment_shows_the_plan():
    def backend(kind, name=None):
        return InTurn() if kind == "sched" else WorldOperators()

    controller = types.SimpleNamespace(workers=lambda: World(4).infos)
    text = chain(parallelism=4).explain(types.SimpleNamespace(backend=backend, controller=controller, config={}))
    assert "4 workers" in text
    assert "0-3" in text


@pytest.mark.parametrize(
    ("workers", "text"), [((0,), "0"), ((0, 1, 2), "0-2"), ((1, 0), "1,0"), (tuple([0, 1] * 6), "0,1,0,1,0,1,0,1,...")]
)
def test_workers_are_shown_in_short(workers, text):
    assert workers_text(workers).startswith(text)


PROGRAM = """
import functools
from twister2.graph import Graph
def make(index): return None
class Maker:
    def __init__(self, index): pass
graph = Graph("same")
graph.add_source("a", make, 2, options={"x": 1})
graph.add_compute("b", functools.partial(Maker))
graph.add_sink("c", lambda index: None)
graph.connect("a", "b", "net.keyed", key=lambda record: record, op="sum", seed={"a", "b", "c"}, data=[1.5])
graph.connect("b", "c")
print(graph.fingerprint())
"""


def test_fingerprints_are_equal_in_other_processes():
    found = set()
    for seed in ("0", "7", "random"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        found.add(run.stdout)
    assert len(found) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.add_source("more", no_source, 1),
        lambda graph: graph.connect("source", "sink", "world.keyed"),
        lambda graph: graph.place("source", [0, 0]),
        lambda graph: setattr(graph, "name", "other"),
        lambda graph: graph.edges.pop(),
    ],
)
def test_fingerprints_differ_when_the_shape_does(change):
    graph = chain()
    before = graph.fingerprint()
    change(graph)
    assert graph.fingerprint() != before


def connected(operator="world.keyed", factory=Silent, **options):
    graph = Graph()
    graph.add_source("source", no_source, 2)
    graph.add_sink("sink", factory)
    graph.connect("source", "sink", operator, **options)
    return graph.fingerprint()


def test_fingerprints_see_operators_options_and_functions_but_no_data():
    assert connected() != connected("world.direct")
    assert connected() != connected(factory=Times)
    assert connected(key=len) != connected(key=max)
    assert connected(op="sum") != connected(op="min")
    assert len({connected(op=op) for op in (numpy.add, numpy.multiply, numpy.maximum)}) == 3
    assert connected(start=[1, 2]) == connected(start=[3])


def test_fingerprints_see_which_op_of_mpi4py_is_an_option(monkeypatch):
    """They have neither a name nor a hash, and all of them one type."""

    class Op:
        __hash__ = None

        def __call__(self, left, right):
            return left

    names = ("SUM", "PROD", "MIN", "MAX", "LAND", "LOR", "LXOR", "BAND", "BOR", "BXOR")
    module = types.SimpleNamespace(Op=Op, **{name: Op() for name in names})
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", module)
    assert len({connected(reducer=getattr(module, name)) for name in names}) == len(names)
    assert connected(reducer=module.PROD) == connected(reducer="prod")
