"""Rewriting rules: when each applies, and that answers stay the same with every subset of them."""

from __future__ import annotations

import itertools
import threading

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twister2
from twister2.graph import Catalog, Graph
from twister2.graph.compile import compile_graph
from twister2.graph.logical import logical_plan
from twister2.graph.rewrite import RULES
from twister2.spec.declarations import Declarations
from twister2.spec.errors import GraphError, Twister2Error, UserCodeError
from twister2.spec.tasks import END, Compute, Sink, Source
from twister2_testkit.executor_bench import InTurn
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_testkit.world import World
from twister2_testkit.world_ops import WorldOperators

pytestmark = pytest.mark.timeout(120)

FEW = [(), ("fuse",), tuple(RULES)]


class Numbers(Source):
    """Batches of numbers, with a pause now and then."""

    def __init__(self, index, batches=3, pauses=False):
        self.batches = [[index * 100 + k * 10 + j for j in range(k + 1)] for k in range(batches)]
        self.pauses = self.paused = pauses
        self.threads = set()
        self.closed = False

    def poll(self):
        self.threads.add(threading.get_ident())
        self.paused = not self.paused
        if self.pauses and self.paused:
            return None
        return self.batches.pop(0) if self.batches else END

    def counters(self):
        return {"records_read": 7.0}


class Step(Compute):
    """Does what its kind says with every record."""

    def __init__(self, kind, in_pool=False):
        self.kind, self.releases_gil = kind, in_pool
        self.held = []
        self.threads = set()

    def process(self, batch, emit, edge):
        self.threads.add(threading.get_ident())
        if self.kind == "add":
            emit([x + 1 for x in batch])
        elif self.kind == "odd":
            emit([x for x in batch if x % 2])
        elif self.kind == "twice":
            emit(list(batch))
            emit([-x for x in batch])
        elif self.kind in ("hold", "hold lazily"):
            self.held.extend(batch)
        elif self.kind == "fail":
            emit([1 // ((x - 110) * (x - 111)) for x in batch])

    def finish(self, emit):
        if self.kind == "hold":
            emit(sorted(self.held))
        if self.kind == "hold lazily":
            return ([x] for x in sorted(self.held))
        return None


class Kept(Sink):
    """Keeps everything, and counts what is done with it."""

    def __init__(self, two_phase=False):
        self.seen, self.said = [], []
        self.two_phase = two_phase

    def write(self, batch, edge):
        self.seen += batch

    def prepare(self, checkpoint):
        self.said.append("prepare")
        return [len(self.seen)]

    def commit(self, committables):
        self.said.append(f"commit {len(committables)}")

    def abort(self):
        self.said.append("abort")

    def close(self):
        self.said.append("close")

    def output(self):
        return sorted(self.seen), self.said


KINDS = st.sampled_from(["add", "odd", "twice", "hold", "hold lazily"])
STEPS = st.lists(st.tuples(KINDS, st.booleans(), st.booleans()), min_size=1, max_size=4)


def line(
    steps, *, narrow_source=True, narrow_sink=True, pauses=False, operator="net.direct", last="net.direct", **graph
):
    """A source, steps of (kind, narrow, in the pool), a sink."""
    built = Graph("line", **graph)
    built.add_source("source", lambda index: Numbers(index, pauses=pauses), 3, narrow=narrow_source, options={"a": "b"})
    before = "source"
    for number, (kind, narrow, in_pool) in enumerate(steps):
        name = f"step {number}"
        built.add_compute(name, lambda index, kind=kind, in_pool=in_pool: Step(kind, in_pool), narrow=narrow)
        built.connect(before, name, operator)
        before = name
    built.add_sink("sink", lambda index: Kept(), narrow=narrow_sink, two_phase=False)
    built.connect(before, "sink", last)
    return built


def answers(build, executor="inline", n_workers=2):
    def main(env):
        outputs = env.run(build())
        return [seen for seen, _ in outputs["sink"]]

    return run_workers(n_workers, main, executor=executor)


@settings(max_examples=25, deadline=None, database=None)
@given(
    steps=STEPS,
    narrow_source=st.booleans(),
    narrow_sink=st.booleans(),
    pauses=st.booleans(),
    shuffled=st.booleans(),
    executor=st.sampled_from(EXECUTORS),
)
def test_answers_are_the_same_with_every_subset_of_the_rules(
    steps, narrow_source, narrow_sink, pauses, shuffled, executor
):
    options = {"narrow_source": narrow_source, "narrow_sink": narrow_sink, "pauses": pauses}
    options["last"] = "net.partition" if shuffled else "net.direct"
    found = [
        answers(lambda without=without: line(steps, without_rules=without, **options), executor) for without in FEW
    ]
    assert all(other == found[0] for other in found)


CATALOG = Catalog(lambda name: WorldOperators())


def names(graph):
    """The vertices of its plan."""
    compiled = compile_graph(graph, workers=World(2).infos, scheduler=InTurn(), catalog=CATALOG)
    return [(vertex.name, vertex.kind) for vertex in compiled.plan.vertices]


def world(steps, **options):
    return line(steps, operator="world.direct", last="world.direct", **options)


ADD = ("add", True, False)
WIDE = ("add", False, False)


@pytest.mark.parametrize(
    ("graph", "vertices"),
    [
        (world([ADD, ADD]), [("source+step 0+step 1", "source"), ("sink", "sink")]),
        (world([ADD, ADD], narrow_sink=False), [("source+step 0+step 1", "source"), ("sink", "sink")]),
        (world([ADD, ADD], narrow_source=False), [("source", "source"), ("sink", "sink")]),
        (
            world([ADD, ADD], narrow_source=False, narrow_sink=False),
            [("source", "source"), ("step 0+step 1", "compute"), ("sink", "sink")],
        ),
        (world([ADD, WIDE, ADD]), [("source+step 0", "source"), ("step 1", "compute"), ("sink", "sink")]),
        (world([WIDE]), [("source", "source"), ("step 0", "compute"), ("sink", "sink")]),
        (world([]), [("source", "source"), ("sink", "sink")]),
        (
            world([ADD], without_rules=["fuse"]),
            [("source", "source"), ("step 0", "compute"), ("sink", "sink")],
        ),
    ],
    ids=[
        "source first",
        "wide sink",
        "sink",
        "neither",
        "a wide step between",
        "wide",
        "no step",
        "switched off",
    ],
)
def test_when_fuse_joins(graph, vertices):
    assert names(graph) == vertices


@pytest.mark.parametrize("vertex", ["source", "step", "sink"])
def test_what_is_called_elsewhere_is_not_joined_with_an_end(vertex):
    graph = Graph()
    options = {vertex: {"blocking": True}}
    graph.add_source("source", Numbers, 2, narrow=True, options=options.get("source"))
    graph.add_compute("step", lambda index: Step("add"), narrow=True, options=options.get("step"))
    graph.add_compute("next", lambda index: Step("add"), narrow=True, options=options.get("sink"))
    graph.add_sink("sink", lambda index: Kept(), narrow=True, options=options.get("sink"))
    for one, other in itertools.pairwise(["source", "step", "next", "sink"]):
        graph.connect(one, other, "world.direct")
    found = names(graph)
    assert ("source", "source") in found or vertex == "sink"
    assert ("source+step", "source") in found or vertex != "sink"


class Handing(Compute):
    narrow = True
    declares = Declarations(passes_on=True)

    def __init__(self, index):
        pass

    def process(self, batch, emit, edge):
        emit(batch)


@pytest.mark.parametrize("steps", [1, 2])
def test_what_only_passes_on_goes_with_a_sink_that_is_not_narrow(steps):
    graph = Graph()
    graph.add_source("source", Numbers, 2)
    graph.add_compute("pass", Handing, 2)
    graph.connect("source", "pass", "world.direct")
    last = "pass"
    if steps == 2:
        graph.add_compute("step", Handing, declares=Declarations())
        graph.connect("pass", "step", "world.direct")
        last = "step"
    graph.add_sink("sink", lambda index: Kept())
    graph.connect(last, "sink", "world.direct")
    graph.place("pass", [0, 1])
    if steps == 1:
        assert names(graph) == [("source", "source"), ("sink", "sink")]
    else:  # its functions may belong into the pool
        assert names(graph) == [("source", "source"), ("pass+step", "compute"), ("sink", "sink")]


class Named(Step):
    """Gives the name of the edge beside each record."""

    narrow = True

    def process(self, batch, emit, edge):
        emit([(edge, record) for record in batch])


class NamedSink(Kept):
    narrow = True

    def write(self, batch, edge):
        self.seen += [(edge, record) for record in batch]


@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize("passing", [1, 2])
def test_what_only_passes_on_is_left_out_and_names_of_edges_stay(passing, step):
    def run(without):
        graph = Graph(without_rules=without)
        graph.add_source("source", Numbers, 2)
        before = "source"
        for number in range(passing):
            graph.add_compute(f"pass {number}", Handing, 2)
            graph.connect(before, f"pass {number}", "net.partition" if not number else "net.direct")
            before = f"pass {number}"
        if step:
            graph.add_compute("step", lambda index: Named("add"), 2, narrow=True)
            graph.connect(before, "step", "net.direct")
            before = "step"
        graph.add_sink("sink", lambda index: NamedSink(), 2, narrow=True, two_phase=False)
        graph.connect(before, "sink", "net.direct")
        made = []

        def main(env):
            outputs = env.run(graph)
            made.append("run as one task" in env.prepare(graph).explain())
            return [seen for seen, _ in outputs["sink"]]

        return run_workers(1, main), made

    fused, plain = run([]), run(["fuse"])
    assert fused[0] == plain[0]
    assert all(edge == (f"{'step' if step else f'pass {passing - 1}'}->sink") for edge, _ in fused[0][0][0])
    assert (fused[1], plain[1]) == ([True], [False])


def test_what_is_placed_apart_is_not_joined():
    for name in ("source", "step 0", "sink"):
        graph = world([ADD], narrow_source=name != "sink")
        graph.place(name, [1, 1, 1])
        joined = names(graph)
        assert len(joined) == (2 if name == "source" else 3), joined  # a chain goes with its source


def test_a_fixed_source_takes_its_chain_along():
    graph = world([ADD, ADD])
    graph.place("source", [1, 1, 0])
    plan, _ = RULES["fuse"].apply(logical_plan(graph, 2, CATALOG), CATALOG)
    assert plan.fixed == {"source+step 0+step 1": (1, 1, 0)}


def test_endless_graphs_keep_their_ends_apart():
    plan = logical_plan(world([ADD, ADD]), 2, CATALOG)
    plan, _ = RULES["fuse"].apply(attrs.evolve(plan, mode="stream"), CATALOG)
    assert [vertex.name for vertex in plan.vertices] == ["source", "step 0+step 1", "sink"]
    assert plan.mode == "stream"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_fused_sink_keeps_commits_and_closes_as_any(executor):
    def main(env):
        built = line([ADD], narrow_source=False)
        built.vertices["sink"] = attrs.evolve(built.vertices["sink"], two_phase=True)
        with env.prepare(built) as prepared:
            assert "step 0 > sink run as one task" in prepared.explain()
            runs = [prepared.run()["sink"] for _ in range(2)]
        return [[(len(seen), said) for seen, said in run] for run in runs]

    results = run_workers(2, main, executor=executor)
    tasks = [task for runs in results for run in runs for task in run]
    assert [seen for seen, _ in tasks] == [6] * 6
    assert all(said[0] == "prepare" and said[-1] == "close" for _, said in tasks)
    assert sum(word == "commit 3" for _, said in tasks for word in said) == 2


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("steps", [[ADD, ("fail", True, False)], [("fail", True, False), ADD], [("fail", True, True)]])
@pytest.mark.parametrize("end", ["source", "sink"])
def test_an_error_names_the_step_that_failed(executor, steps, end):
    failing = next(number for number, (kind, _, _) in enumerate(steps) if kind == "fail")
    with pytest.raises(UserCodeError, match=f"'step {failing}' failed") as caught:
        answers(lambda: line(steps, narrow_source=end == "source"), executor)
    assert "ZeroDivisionError" in str(caught.value)
    # of the step, whatever calls the chain: a source that is joined with it is polled, a sink written to
    assert caught.value.details["method"] == "process"
    assert "its process() raised ZeroDivisionError" in caught.value.why


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_source_that_fails_is_named(executor):
    class Fails(Numbers):
        def poll(self):
            if len(self.batches) == 1:
                raise ValueError("no more of this")
            return super().poll()

    def build():
        built = Graph("fails")
        built.add_source("numbers", Fails, 2, narrow=True)
        built.add_compute("step", lambda index: Step("add"), narrow=True)
        built.add_sink("sink", lambda index: Kept(), two_phase=False)
        built.connect("numbers", "step")
        built.connect("step", "sink")
        return built

    with pytest.raises(UserCodeError, match=r"'numbers' failed.*no more of this") as caught:
        answers(build, executor)
    assert caught.value.details["method"] == "poll"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_sink_that_fails_is_named(executor):
    class Full(Kept):
        def write(self, batch, edge):
            raise ValueError("no more of this")

    def build():
        built = Graph("fails")
        built.add_source("numbers", Numbers, 2, narrow=True)
        built.add_compute("step", lambda index: Step("add"), narrow=True)
        built.add_sink("sink", lambda index: Full(), narrow=True, two_phase=False)
        built.connect("numbers", "step")
        built.connect("step", "sink")
        return built

    with pytest.raises(UserCodeError, match=r"'sink' failed.*no more of this") as caught:
        answers(build, executor)
    assert caught.value.details["method"] == "write"


def test_the_source_stays_in_its_thread_when_the_computes_go_to_the_pool():
    tasks = []

    def main(env):
        built = Graph("threads")
        built.add_source("numbers", lambda index: tasks.append(Numbers(index)) or tasks[-1], env.n_workers, narrow=True)
        built.add_compute("step", lambda index: tasks.append(Step("add", True)) or tasks[-1], narrow=True)
        built.add_sink("sink", lambda index: Kept(), two_phase=False)
        built.connect("numbers", "step")
        built.connect("step", "sink")
        assert "numbers > step run as one task" in built.explain(env)
        env.run(built)
        return threading.get_ident()

    (here,) = run_workers(1, main, executor="threads")
    (source,) = (task for task in tasks if isinstance(task, Numbers))
    (step,) = (task for task in tasks if isinstance(task, Step))
    assert source.threads == {here}
    assert here not in step.threads


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("without", FEW, ids=lambda without: "+".join(without) or "all")
def test_a_source_that_is_drained_still_ends_what_is_behind_it(executor, without):
    class Endless(Source):
        def poll(self):
            return [1]

    def main(env):
        built = Graph("drained", without_rules=without)
        built.add_source("numbers", lambda index: Endless(), env.n_workers, narrow=True)
        built.add_compute("step", lambda index: Step("hold"), narrow=True)
        built.add_sink("sink", lambda index: Kept(), two_phase=False)
        built.connect("numbers", "step")
        built.connect("step", "sink")
        run = env.start(built)
        while not env.runner.plan(built).execution.counters():
            run.test()
        for _ in range(20):
            run.test()
        run.drain()
        ((seen, said),) = run.wait(30)["sink"]
        return set(seen), said

    assert run_workers(2, main, executor=executor) == [({1}, ["close"])] * 2


def test_counters_of_the_source_are_those_of_the_task():
    def main(env):
        env.run(line([ADD]))
        return env.runner.figures.totals()

    (totals,) = run_workers(1, main)
    assert totals["line: source+step 0"]["records_read"] == 21
    assert totals["line: source+step 0"]["records"] == totals["line: sink"]["records"] == 18


@pytest.mark.parametrize("wrong", ["source", "sink"])
def test_a_factory_that_gives_something_else_is_named(wrong):
    def build():
        built = Graph("wrong")
        built.add_source("source", lambda index: Kept() if wrong == "source" else Numbers(index), 2, narrow=True)
        built.add_compute("a", lambda index: Step("add"), narrow=True)
        built.add_compute("b", lambda index: Step("add"), narrow=False)
        built.add_compute("c", lambda index: Step("add"), narrow=True)
        built.add_sink("sink", lambda index: Step("add") if wrong == "sink" else Kept(), narrow=True, two_phase=False)
        for one, other in itertools.pairwise(["source", "a", "b", "c", "sink"]):
            built.connect(one, other)
        return built

    with pytest.raises(GraphError, match=f"the factory of {wrong} '{wrong}' gave"):
        answers(build)


def configured(env):
    graph = line([ADD])
    text = graph.explain(env)
    with env.prepare(graph) as prepared:
        return text, prepared.explain(), [seen for seen, _ in prepared.run()["sink"]]


def test_the_configuration_switches_rules_off_for_a_job():
    settings_ = ["job.attempts=1"]
    plain = twister2.run(configured, workers=2, settings=settings_)
    without = twister2.run(configured, workers=2, settings=[*settings_, "job.graph.without_rules=fuse"])
    assert "rules" in plain[0][0]
    assert "rules" in plain[0][1]
    assert "fuse:" not in without[0][0] + without[0][1]
    assert [seen for _, _, seen in plain] == [seen for _, _, seen in without]


def test_a_rule_that_does_not_exist_is_an_error_of_the_job():
    with pytest.raises(Twister2Error, match="'fusion'"):
        twister2.run(configured, workers=1, settings=["job.attempts=1", "job.graph.without_rules=fusion"])
