"""Data locality against the kit's suite, and what it does that others do not."""

from __future__ import annotations

import time

import attrs
import pytest

from twister2.spec.errors import GraphError
from twister2_sched_datalocality.config import DataLocalityConfig
from twister2_sched_datalocality.plugin import DataLocalityPlugin
from twister2_testkit.sched import SchedCapabilities, check_complete, request
from twister2_testkit.sched_resources import LocalitySuite, apart, reading


class TestDataLocality(LocalitySuite):
    capabilities = SchedCapabilities(limits_tasks=True, balances=True, keeps_groups=True)
    plugin = "twister2_sched_datalocality.plugin:DataLocalityPlugin"


def scheduler(**options):
    return DataLocalityPlugin().sched_create(config=DataLocalityConfig(**options))


def test_slack_lets_a_worker_read_more_of_what_is_near():
    asked = reading({k: ["host0"] for k in range(10)}, [100] * 10, apart(2), 2)
    counts = [scheduler(slack=slack).schedule(asked).workers["read"].count(0) for slack in (0.0, 0.5, 10)]
    assert counts == [5, 7, 10]


def test_who_loses_most_by_going_elsewhere_chooses_first():
    distances = {(0, "a"): 0.0, (1, "a"): 0.25, (0, "b"): 0.0, (1, "b"): 8.0}
    asked = reading({0: ["a"], 1: ["b"]}, [100, 100], distances)
    assert scheduler(slack=0).schedule(asked).workers["read"] == (1, 0)


def test_a_task_without_a_size_counts_as_the_mean():
    asked = attrs.evolve(reading({k: ["host0"] for k in range(4)}, [0] * 4, apart(2), 2), sizes={})
    assert sorted(scheduler().schedule(asked).workers["read"]) == [0, 0, 1, 1]


def test_a_source_that_does_not_say_where_its_data_lies_is_dealt_out():
    asked = reading({}, [10] * 5, {}, 3)
    assert scheduler().schedule(asked).workers["read"] == (0, 1, 2, 0, 1)
    assert "no source says where" in scheduler().explain(asked)


def test_names_are_good_enough_for_a_plan_that_is_only_looked_at():
    asked = reading({0: ["host1"], 1: ["host0"]}, [10, 10], {})
    assert scheduler().schedule(asked).workers["read"] == (1, 0)


def test_the_limit_goes_before_nearness():
    asked = reading({k: ["host0"] for k in range(3)}, [10] * 3, apart(3), 3)
    limited = attrs.evolve(asked, constraints={"max_tasks_per_worker": 1})
    assert sorted(scheduler(slack=9).schedule(limited).workers["read"]) == [0, 1, 2]
    with pytest.raises(GraphError, match="'read' do not fit: max_tasks_per_worker is 1"):
        scheduler(max_tasks_per_worker=1).schedule(reading({0: ["x"]}, [1] * 4, apart(3), 3))


def test_it_says_what_is_read_where():
    mib = 1 << 20
    asked = reading({0: ["host0"], 1: ["host0"], 2: ["host0"]}, [mib, 2 * mib, 3 * mib], apart(2), 2)
    lines = scheduler(slack=0).explain(asked).splitlines()
    assert "at most 3 MiB read by a worker" in lines[0]
    assert lines[1:] == [
        "worker 0 (host0): 1 tasks read 3 MiB here, 0 read 0 MiB elsewhere",
        "worker 1 (host1): 0 tasks read 0 MiB here, 2 read 3 MiB elsewhere",
    ]


def test_ten_thousand_tasks_with_three_copies_take_less_than_a_second():
    hosts = {k: [f"host{k % 64}", f"host{k * 7 % 64}", f"host{k * 13 % 64}"] for k in range(10_000)}
    asked = reading(hosts, [100] * 10_000, apart(64), 64)
    begin = time.process_time()
    placement = scheduler().schedule(asked)
    spent = time.process_time() - begin
    check_complete(asked, placement)
    near = sum(f"host{worker}" in hosts[k] for k, worker in enumerate(placement.workers["read"]))
    assert near > 9_900
    assert spent < 2.0


def test_it_says_what_lies_together():
    asked = request([("a", 3), ("b", 3), ("c", 3)], constraints={"group": [["a", "b"], ["b", "c"]]})
    assert "together: a with b with c" in scheduler().explain(asked)
