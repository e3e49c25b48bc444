"""What schedulers are asked: wishes, sizes, distances; a program's own scheduler."""

from __future__ import annotations

import types

import pytest

from twister2.graph import Catalog, Graph
from twister2.graph.compile import compile_graph
from twister2.graph.explain import explain_plan
from twister2.spec.environment import NodeFacts, WorkerInfo
from twister2.spec.errors import GraphError, StepMismatchError
from twister2.spec.plan import Placement
from twister2.spec.sched import TaskScheduler
from twister2.spec.tasks import END, Compute, Sink, Source
from twister2_testkit.graphs import run_workers
from twister2_testkit.world_ops import WorldOperators

CATALOG = Catalog(lambda name: WorldOperators())


class Last(TaskScheduler):
    """Everything on the last worker; remembers what it was asked."""

    def __init__(self, needs=()):
        self.needs = frozenset(needs)
        self.asked = []

    def schedule(self, request):
        self.asked.append(request)
        return Placement({v.name: (len(request.workers) - 1,) * v.parallelism for v in request.vertices})

    def explain(self, request):
        return "the last worker\nbecause I like it"


class Step(Compute):
    narrow = True

    def __init__(self, index):
        pass

    def process(self, batch, emit, edge):
        emit([x + 1 for x in batch])


class Numbers(Source):
    def __init__(self, index):
        self.batches = [[index]]

    def poll(self):
        return self.batches.pop() if self.batches else END


class Where(Sink):
    def __init__(self, index):
        self.seen = []

    def open(self, context):
        self.worker = context.worker_id

    def write(self, batch, edge):
        self.seen += [(x, self.worker) for x in batch]

    def output(self):
        return self.seen


def graph(scheduler=None, operator="world.direct", name="g", **wishes):
    made = Graph(name, scheduler=scheduler)
    made.add_source("a", Numbers, 3, **wishes)
    made.add_compute("b", Step)
    made.add_compute("c", Step, memory_mb=10)
    made.add_sink("d", Where)
    for one, other in (("a", "b"), ("b", "c"), ("c", "d")):
        made.connect(one, other, operator)
    return made


def infos(n):
    return [WorkerInfo(k, k, NodeFacts(f"host{k}"), cpus=2.0, memory_mb=100) for k in range(n)]


def compiled(built, **options):
    return compile_graph(built, workers=infos(2), scheduler=Last(), catalog=CATALOG, **options)


def test_what_was_asked_for_is_told_from_defaults():
    mine = Last()
    compiled(graph(mine, cpus=0.5, gpus=1))
    (asked,) = mine.asked
    a, fused, d = asked.vertices
    assert (a.cpus, a.gpus, a.asks) == (0.5, 1, {"cpus", "gpus"})
    assert (fused.memory_mb, fused.cpus, fused.asks) == (10, 1.0, {"memory_mb"})
    assert (d.cpus, d.memory_mb, d.asks) == (1.0, 0, frozenset())


def test_a_fused_task_asks_for_what_its_parts_ask_for():
    mine = Last()
    built = Graph(scheduler=mine)
    built.add_source("a", Numbers, 2)
    for name, wishes in (("b", {"cpus": 0.5, "memory_mb": 3}), ("c", {}), ("d", {"cpus": 0.25, "memory_mb": 4})):
        built.add_compute(name, Step, **wishes)
    built.add_sink("e", Where)
    for one, other in ("ab", "bc", "cd", "de"):
        built.connect(one, other, "world.direct")
    compiled(built)
    fused = mine.asked[0].vertices[1]
    assert (fused.name, fused.cpus, fused.memory_mb, fused.asks) == ("b+c+d", 0.5, 7, {"cpus", "memory_mb"})


@pytest.mark.parametrize(
    "wish", [{"cpus": -1}, {"cpus": "2"}, {"memory_mb": 1.5}, {"gpus": True}, {"cpus": float("nan")}]
)
def test_wishes_that_make_no_sense_are_refused(wish):
    with pytest.raises(GraphError, match=next(iter(wish))):
        graph(**wish)


@pytest.mark.parametrize("given", [Last, "roundrobin", lambda request: None])
def test_something_that_is_no_scheduler_is_refused(given):
    with pytest.raises(GraphError, match="scheduler of graph 'g'"):
        graph(given)


def test_the_fingerprint_names_the_scheduler():
    class Other(Last):
        pass

    prints = {graph().fingerprint(), graph(Last()).fingerprint(), graph(Other()).fingerprint()}
    assert len(prints) == 3
    assert graph(Last()).fingerprint() == graph(Last()).fingerprint()


def test_explain_shows_why_and_what_each_worker_has():
    text = explain_plan(compiled(graph(Last(), cpus=0.5)))
    assert "placement: the last worker\n  because I like it" in text
    assert "1       host1  9      1.5 of 2  30 of 100 MiB" in text
    assert "0       host0  0      0 of 2    0 of 100 MiB" in text


def planned_graph(scheduler, hosts, sizes):
    built = Graph(scheduler=scheduler)
    built.add_source("a", lambda index, planned: Numbers(index), 2, planner=dict)
    built.add_sink("d", Where)
    built.connect("a", "d", "world.direct")
    return built, {"a": types.SimpleNamespace(hosts=hosts, sizes=sizes)}


def test_hosts_and_sizes_come_from_the_planner_and_distances_when_needed():
    asked = []

    def measure(hosts):
        asked.append(hosts)
        return {(0, "x"): 0.0}

    for needs in ((), ("distances",)):
        mine = Last(needs)
        built, planned = planned_graph(mine, {0: ("x", "y")}, lambda parallelism: [5] * parallelism)
        compiled(built, planned=planned, measure=measure)
        assert mine.asked[0].sizes == {"a": (5, 5)}
        assert mine.asked[0].distances == ({(0, "x"): 0.0} if needs else {})
    assert asked == [("x", "y")]


def test_nothing_is_measured_where_nothing_is_known_of_the_data():
    built, planned = planned_graph(Last({"distances"}), {}, None)
    compiled(built, planned=planned, measure=lambda hosts: pytest.fail("measured"))


@pytest.mark.parametrize("sizes", [[1], [1, 2, 3], 7])
def test_sizes_that_do_not_fit_are_refused(sizes):
    built, planned = planned_graph(Last(), {}, sizes)
    with pytest.raises(GraphError, match="sizes"):
        compiled(built, planned=planned)


def test_rules_can_be_switched_off_for_all_graphs_of_a_job():
    assert len(compiled(graph()).plan.vertices) == 3
    assert len(compiled(graph(), without_rules=["fuse"]).plan.vertices) == 4


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_a_programs_own_scheduler_places_a_run(executor):
    def main(env):
        outputs = env.run(graph(Last(), "net.direct"))
        return [record for task in outputs["d"] for record in task]

    assert run_workers(2, main, executor=executor) == [[], [(2, 1), (3, 1), (4, 1)]]


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_a_scheduler_that_places_differently_on_each_worker_is_noticed(executor):
    class Here(TaskScheduler):
        def __init__(self, worker_id):
            self.worker_id = worker_id

        def schedule(self, request):
            return Placement({v.name: (self.worker_id,) * v.parallelism for v in request.vertices})

    def main(env):
        env.run(graph(Here(env.worker_id), "net.partition"))

    with pytest.raises(StepMismatchError, match="run g"):
        run_workers(2, main, executor=executor)


def test_a_scheduler_that_raises_says_so_on_every_worker():
    class Refuses(Last):
        def schedule(self, request):
            raise GraphError("there is no place for 'a'", why="I say so", remedy="ask another one")

    seen = []

    def main(env):
        try:
            env.run(graph(Refuses(), "net.direct"))
        except GraphError as error:
            seen.append(str(error))
            raise

    with pytest.raises(GraphError, match="no place for 'a'"):
        run_workers(3, main)
    assert len(seen) == 3
    assert len(set(seen)) == 1


@pytest.mark.parametrize(("needs", "noted"), [((), False), (("distances",), True)])
def test_explain_says_when_it_does_not_know_how_far_data_lies(needs, noted):
    def main(env):
        built = Graph(scheduler=Last(needs))
        built.add_source("files", lambda index, planned: Numbers(index), 2, planner=dict)
        built.add_sink("d", Where)
        built.connect("files", "d")
        return built.explain(env)

    (text,) = run_workers(1, main)
    assert ("note: how far data of files lies is not measured here" in text) is noted
