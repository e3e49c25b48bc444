"""First fit against the kit's suite, and what it does that others do not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.environment import NodeFacts, WorkerInfo
from twister2.spec.errors import GraphError
from twister2_sched_firstfit.config import FirstFitConfig
from twister2_sched_firstfit.plugin import FirstFitPlugin
from twister2_testkit.sched import SchedCapabilities, request
from twister2_testkit.sched_resources import FittingSuite, asking


class TestFirstFit(FittingSuite):
    capabilities = SchedCapabilities(limits_tasks=True, balances=True, keeps_groups=True)
    plugin = "twister2_sched_firstfit.plugin:FirstFitPlugin"


def scheduler(**options):
    return FirstFitPlugin().sched_create(config=FirstFitConfig(**options))


def machines(*sizes):
    return tuple(
        WorkerInfo(k, k, NodeFacts(f"host{k}"), cpus=cpus, memory_mb=memory) for k, (cpus, memory) in enumerate(sizes)
    )


def test_the_largest_come_first_and_go_to_the_first_with_room():
    asked = asking(
        request([("small", 2), ("big", 2)]),
        {"small": {"memory_mb": 300}, "big": {"memory_mb": 700}},
        machines((1, 1000), (1, 1000)),
    )
    workers = scheduler().schedule(asked).workers
    assert workers["big"] == (0, 1)
    assert workers["small"] == (0, 1)


def test_workers_may_differ():
    asked = asking(request([("a", 3)]), {"a": {"cpus": 2}}, machines((1, 0), (2, 0), (4, 0)))
    assert scheduler().schedule(asked).workers["a"] == (1, 2, 2)


def test_what_nobody_asked_for_is_not_counted():
    asked = asking(request([("a", 8)]), {}, machines((1, 10), (1, 10)))
    assert scheduler().schedule(asked).workers["a"] == (0, 1) * 4


def test_a_worker_whose_memory_is_not_known_takes_what_comes():
    asked = asking(request([("a", 4)]), {"a": {"memory_mb": 1 << 40}}, machines((1, 100), (1, 0)))
    assert scheduler().schedule(asked).workers["a"] == (1,) * 4


def test_tenths_of_a_cpu_fill_it():
    asked = asking(request([("a", 10)]), {"a": {"cpus": 0.1}}, machines((1, 0)))
    assert scheduler().schedule(asked).workers["a"] == (0,) * 10


def test_padding_is_left_free():
    asked = asking(request([("a", 2)]), {"a": {"cpus": 1, "memory_mb": 50}}, machines((2, 100), (2, 100)))
    assert scheduler().schedule(asked).workers["a"] == (0, 0)
    assert scheduler(cpu_padding=0.5).schedule(asked).workers["a"] == (0, 1)
    assert scheduler(memory_padding_mb=10).schedule(asked).workers["a"] == (0, 1)
    with pytest.raises(GraphError, match="'a' does not fit"):
        scheduler(cpu_padding=1.5).schedule(asked)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"memory_mb": 2000}, ["2,000 MiB of memory", "1,000 MiB of memory", "worker 1", "job.memory_mb"]),
        ({"cpus": 3}, ["3 CPUs", "2 CPUs", "worker 0", "no worker has more than", "job.cpus"]),
        ({"gpus": 1}, ["1 GPUs", "0 GPUs", "job.gpus"]),
        ({"cpus": 1.5, "memory_mb": 900}, ["1.5 CPUs", "900 MiB", "all of that"]),
    ],
)
def test_what_does_not_fit_says_what_is_missing(wishes, words):
    asked = asking(request([("small", 1), ("large", 1)]), {"large": wishes}, machines((2, 500), (1, 1000)))
    with pytest.raises(GraphError) as caught:
        scheduler().schedule(asked)
    for word in ["task 0 of 'large'", *words]:
        assert word in str(caught.value)


def test_the_room_that_is_left_is_told():
    asked = asking(request([("a", 3)]), {"a": {"memory_mb": 600}}, machines((1, 1000), (1, 700)))
    with pytest.raises(GraphError, match="the most that is left is 400 MiB of memory, on worker 0"):
        scheduler().schedule(asked)


def test_oversubscribed_is_spread_by_what_workers_have():
    asked = asking(request([("a", 6)]), {"a": {"cpus": 2}}, machines((2, 0), (4, 0)))
    placed = scheduler(oversubscribe=True)
    workers = placed.schedule(asked).workers["a"]
    assert sorted(workers) == [0, 0, 1, 1, 1, 1]
    assert "oversubscribed" in placed.explain(asked)


def test_oversubscribing_keeps_the_limit_of_tasks():
    asked = asking(
        request([("a", 3)], constraints={"max_tasks_per_worker": 1}), {"a": {"cpus": 9}}, machines((1, 0), (1, 0))
    )
    with pytest.raises(GraphError, match="max_tasks_per_worker is 1"):
        scheduler(oversubscribe=True).schedule(asked)


def test_a_chain_that_fits_nowhere_as_a_whole_goes_apart():
    chain = request([("a", 1), ("b", 1)], [("a", "b", "net.direct")])
    wishes = {"a": {"memory_mb": 60}, "b": {"memory_mb": 60}}
    apart = asking(chain, wishes, machines((1, 100), (1, 100)))
    assert scheduler().schedule(apart).workers == {"a": (0,), "b": (1,)}
    assert "apart, as no worker has 120 MiB of memory left" in scheduler().explain(apart)
    together = asking(chain, wishes, machines((1, 100), (1, 120)))
    assert scheduler().schedule(together).workers == {"a": (1,), "b": (1,)}


def test_what_is_fixed_counts_and_others_follow_while_there_is_room():
    chain = request([("a", 2), ("b", 2)], [("a", "b", "net.direct")], fixed={"a": (1, 1)})
    asked = asking(chain, {"a": {"memory_mb": 40}, "b": {"memory_mb": 20}}, machines((1, 100), (1, 100)))
    assert scheduler().schedule(asked).workers["b"] == (1, 0)
    assert "not with what is fixed on worker 1" in scheduler().explain(asked)


def test_what_is_fixed_where_it_does_not_fit_is_an_error():
    asked = asking(request([("a", 2)], fixed={"a": (0, 0)}), {"a": {"memory_mb": 60}}, machines((1, 100), (1, 100)))
    with pytest.raises(GraphError, match="task 1 of 'a' does not fit on worker 0, where it is fixed"):
        scheduler().schedule(asked)
    assert scheduler(oversubscribe=True).schedule(asked).workers["a"] == (0, 0)


def test_it_says_what_lies_where():
    lines = scheduler(cpu_padding=0.25).explain(request([("a", 3)], n_workers=2)).splitlines()
    assert "0.25 CPUs" in lines[0]
    assert lines[1:] == ["worker 0: 2 of a", "worker 1: 1 of a"]


@settings(deadline=None, max_examples=60, database=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 50), st.booleans()), min_size=1, max_size=5),
    capacities=st.lists(st.tuples(st.integers(1, 8), st.integers(50, 100)), min_size=1, max_size=4),
)
def test_no_worker_is_overdrawn(sizes, capacities):
    names = [f"v{k}" for k in range(len(sizes))]
    wishes = {
        name: {"cpus": cpus / 2, "memory_mb": memory}
        for name, (cpus, memory, asks) in zip(names, sizes, strict=True)
        if asks
    }
    asked = asking(request([(name, 3) for name in names]), wishes, machines(*capacities))
    try:
        placement = scheduler().schedule(asked)
    except GraphError:
        return
    for k, (cpus, memory) in enumerate(capacities):
        here = [v for v in asked.vertices for worker in placement.workers[v.name] if worker == k]
        assert sum(v.cpus for v in here if "cpus" in v.asks) <= cpus
        assert sum(v.memory_mb for v in here if "memory_mb" in v.asks) <= memory
