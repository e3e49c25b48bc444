"""Round robin against the kit's suite."""

from __future__ import annotations

import pytest

from twister2.spec.errors import GraphError
from twister2_sched_roundrobin.config import RoundRobinConfig
from twister2_sched_roundrobin.plugin import RoundRobinPlugin
from twister2_testkit.sched import SchedCapabilities, SchedSuite, request


class TestRoundRobin(SchedSuite):
    capabilities = SchedCapabilities(limits_tasks=True, balances=True, keeps_groups=True)
    plugin = "twister2_sched_roundrobin.plugin:RoundRobinPlugin"


def scheduler(**options):
    return RoundRobinPlugin().sched_create(config=RoundRobinConfig(**options))


def test_task_k_is_on_worker_k_mod_w():
    workers = scheduler().schedule(request([("a", 5)], n_workers=3)).workers
    assert workers["a"] == (0, 1, 2, 0, 1)


def test_the_option_limits_tasks_and_the_graph_goes_first():
    asked = request([("a", 4)], n_workers=2)
    assert scheduler(max_tasks_per_worker=2).schedule(asked).workers["a"] == (0, 1, 0, 1)
    with pytest.raises(GraphError, match="max_tasks_per_worker is 1"):
        scheduler(max_tasks_per_worker=1).schedule(asked)
    relaxed = request([("a", 4)], n_workers=2, constraints={"max_tasks_per_worker": 0})
    assert scheduler(max_tasks_per_worker=1).schedule(relaxed).workers["a"] == (0, 1, 0, 1)


def test_a_full_worker_passes_tasks_on_to_the_next():
    asked = request([("a", 3), ("b", 2)], n_workers=3, fixed={"a": (0, 0, 1)}, constraints={"max_tasks_per_worker": 2})
    assert scheduler().schedule(asked).workers["b"] == (1, 2)


def test_a_limit_that_is_no_number_is_an_error():
    with pytest.raises(GraphError, match="'many'"):
        scheduler().schedule(request([("a", 1)], constraints={"max_tasks_per_worker": "many"}))


def test_it_says_what_it_did():
    text = scheduler().explain(request([("a", 1)], n_workers=3, fixed={"a": (1,)}))
    assert "k mod 3" in text
    assert "fixed: a" in text


def test_it_says_what_lies_together():
    asked = request([("a", 3), ("b", 3), ("c", 3)], constraints={"group": [["a", "b"], ["b", "c"]]})
    assert "together: a with b with c" in scheduler().explain(asked)
