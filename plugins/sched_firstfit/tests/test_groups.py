"""The constraint ``group``: tasks that must lie on one worker."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twister2
from twister2.graph import Graph
from twister2.spec.environment import NodeFacts, WorkerInfo
from twister2.spec.errors import GraphError
from twister2.spec.tasks import END, Compute, Sink, Source
from twister2_sched_firstfit.config import FirstFitConfig
from twister2_sched_firstfit.plugin import FirstFitPlugin
from twister2_testkit.sched import request
from twister2_testkit.sched_resources import asking


def scheduler(**options):
    return FirstFitPlugin().sched_create(config=FirstFitConfig(**options))


def machines(*sizes):
    return tuple(
        WorkerInfo(k, k, NodeFacts(f"host{k}"), cpus=cpus, memory_mb=memory) for k, (cpus, memory) in enumerate(sizes)
    )


def place(asked, **options):
    return scheduler(**options).schedule(asked).workers


def group(*names, **others):
    return {"group": list(names), **others}


def test_tasks_of_a_group_lie_together_and_without_one_they_do_not():
    wishes = {"a": {"memory_mb": 70}, "b": {"memory_mb": 70}, "c": {"memory_mb": 20}}
    vertices = [("a", 2), ("b", 2), ("c", 2)]
    rooms = machines((1, 160), (1, 160))
    apart = place(asking(request(vertices), wishes, rooms))
    assert apart["b"] != apart["c"]
    together = place(asking(request(vertices, constraints=group("b", "c")), wishes, rooms))
    assert together["b"] == together["c"]


def test_a_chain_with_one_of_a_group_goes_along_while_there_is_room():
    edges = [("a", "b", "net.direct")]
    asked = asking(
        request([("a", 1), ("b", 1), ("c", 1)], edges, constraints=group("b", "c")),
        {name: {"memory_mb": 40} for name in "abc"},
        machines((1, 100), (1, 120)),
    )
    assert place(asked) == {"a": (1,), "b": (1,), "c": (1,)}
    asked = asking(
        request([("a", 1), ("b", 1), ("c", 1)], edges, constraints=group("b", "c")),
        {name: {"memory_mb": 40} for name in "abc"},
        machines((1, 100), (1, 100)),
    )
    assert place(asked) == {"a": (1,), "b": (0,), "c": (0,)}
    assert "together: b with c" in scheduler().explain(asked).splitlines()[0]


def test_what_does_not_fit_together_is_an_error_although_each_would_fit():
    asked = asking(
        request([("a", 1), ("b", 1)], constraints=group("a", "b")),
        {"a": {"memory_mb": 60}, "b": {"memory_mb": 60}},
        machines((1, 100), (1, 100)),
    )
    with pytest.raises(GraphError, match="task 0 of 'a' and 'b' does not fit together") as caught:
        place(asked)
    assert "120 MiB of memory" in str(caught.value)
    placed = place(asked, oversubscribe=True)
    assert placed["a"] == placed["b"]


def test_more_tasks_in_a_group_than_a_worker_may_have():
    asked = request([("a", 1), ("b", 1)], constraints=group("a", "b", max_tasks_per_worker=1))
    with pytest.raises(GraphError, match="2 tasks of a group lie on one worker, and max_tasks_per_worker is 1"):
        place(asked)


def test_the_rest_of_a_group_goes_where_one_is_fixed():
    asked = request([("a", 2), ("b", 2)], fixed={"b": (1, 0)}, constraints=group("a", "b"))
    assert place(asked)["a"] == (1, 0)
    asked = asking(asked, {"a": {"memory_mb": 60}}, machines((1, 100), (1, 50)))
    with pytest.raises(GraphError, match="task 0 of 'a' does not fit on worker 1, where 'b' of its group is fixed"):
        place(asked)


def test_a_group_that_is_fixed_apart_is_an_error():
    asked = request([("a", 2), ("b", 2)], fixed={"a": (0, 1), "b": (1, 0)}, constraints=group("a", "b"))
    with pytest.raises(GraphError, match="task 0 of 'a' would lie on worker 0, that of 'b' on worker 1"):
        place(asked)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("a", "constraint group is 'a'"),
        (["a"], "constraint group is"),
        ([["a", "b"], "c"], "constraint group is"),
        (7, "constraint group is 7"),
        (["a", "x"], "names 'x', and the graph has no such vertex"),
        (["a", "wide"], "different numbers of tasks: a has 2, wide has 3"),
    ],
)
def test_wrong_groups_are_named(given, says):
    asked = request([("a", 2), ("b", 2), ("wide", 3)], constraints={"group": given})
    with pytest.raises(GraphError, match=says):
        place(asked)


@settings(deadline=None, max_examples=60, database=None)
@given(
    groups=st.lists(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=3), max_size=4),
    memory=st.lists(st.integers(0, 40), min_size=6, max_size=6),
    rooms=st.lists(st.integers(50, 200), min_size=1, max_size=4),
    fixed=st.booleans(),
)
def test_groups_are_kept_or_refused(groups, memory, rooms, fixed):
    asked = asking(
        request(
            [(name, 3) for name in "abcdef"],
            [("a", "b", "net.direct"), ("c", "d", "net.direct")],
            fixed={"a": (0, len(rooms) - 1, 0)} if fixed else {},
            constraints={"group": groups},
        ),
        {name: {"memory_mb": size} for name, size in zip("abcdef", memory, strict=True) if size},
        machines(*((1, room) for room in rooms)),
    )
    try:
        placed = place(asked)
    except GraphError:
        return
    for names in groups:
        assert len({placed[name] for name in names}) == 1
    for k, room in enumerate(rooms):
        here = [v for v in asked.vertices for worker in placed[v.name] if worker == k]
        assert sum(v.memory_mb for v in here if "memory_mb" in v.asks) <= room


class Numbers(Source):
    narrow = True

    def __init__(self, index):
        self.batches = [[index]]

    def poll(self):
        return self.batches.pop() if self.batches else END


class PassOn(Compute):
    narrow = True

    def __init__(self, index):
        pass

    def process(self, batch, emit, edge):
        emit(batch)


class Where(Sink):
    def __init__(self, index):
        self.where = None

    def open(self, context):
        self.where = {name: context.workers[name][context.index] for name in ("left", "right", "near")}
        assert context.index in context.tasks_here("near")

    def write(self, batch, edge):
        pass

    def output(self):
        return self.where


def job(env):
    graph = Graph("together", constraints={"group": [["right", "near"], ["left", "right"]]})
    for name in ("left", "right"):
        graph.add_source(name, Numbers, 1, memory_mb=10)
        graph.add_compute(f"{name} on", PassOn)
        graph.add_sink(f"{name} end", Where)
        graph.connect(name, f"{name} on")
        graph.connect(f"{name} on", f"{name} end")
    graph.add_sink("near", Where, 1)
    graph.connect("left on", "near", "net.partition")
    graph.place("left", [1])
    return env.run(graph)


def test_names_of_vertices_that_rules_have_joined_are_known():
    settings = ["job.sched=firstfit", "job.memory_mb=400", "job.oversubscribe=true", "job.attempts=1"]
    _, second = twister2.run(job, workers=2, settings=settings)
    everything = [where for outputs in second.values() for where in outputs]
    assert everything == [{"left": 1, "right": 1, "near": 1}] * 3
