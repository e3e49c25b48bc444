"""Random programs of several steps, built on sets and on plain lists together."""

from __future__ import annotations

import importlib.util
import operator
from pathlib import Path

import numpy
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_tset import TSetContext

_spec = importlib.util.spec_from_file_location("tset_oracle", Path(__file__).with_name("oracle.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)
PlainSet = oracle.PlainSet

pytestmark = pytest.mark.timeout(300)
LARGEST = 120
"""Records up to which a program may multiply them."""


def numbers_in_arrays(s):
    return s if isinstance(s, PlainSet) else s.map_batches(lambda batch: numpy.array(batch, int), form="list")


def pairs_in_arrays(s):
    if isinstance(s, PlainSet):
        return s
    return s.map_batches(lambda batch: numpy.array(batch, int).reshape(-1, 2), form="list")


# By what they take: name -> (step, what it gives, what becomes of the order, whether it may make many records).
NUMBERS = {
    "map": (lambda s: s.map(lambda x: x * 3 - 1), "numbers", "keeps", False),
    "filter": (lambda s: s.filter(lambda x: x % 2), "numbers", "keeps", False),
    "flat_map": (lambda s: s.flat_map(lambda x: [x, -x]), "numbers", "keeps", True),
    "direct": (lambda s: s.direct(), "numbers", "keeps", False),
    "named": (lambda s: s.named("n"), "numbers", "keeps", False),
    "cache": (lambda s: s.cache(), "numbers", "keeps", False),
    "lazy_persist": (lambda s: s.lazy_persist(), "numbers", "keeps", False),
    "map_partitions": (lambda s: s.map_partitions(lambda xs: (x + 1 for x in xs)), "numbers", "keeps", False),
    "sort": (lambda s: s.sort(), "numbers", "makes", False),
    "sort descending": (lambda s: s.sort(descending=True, partitions=2), "numbers", "makes", False),
    "sort mixed": (lambda s: s.sort(lambda x: x % 2, lambda x: x, descending=[True, False]), "numbers", "makes", False),
    "compared": (lambda s: s.sort(comparator=lambda a, b: b - a), "numbers", "makes", False),
    "distinct": (lambda s: s.distinct(), "numbers", "loses", False),
    "partition": (lambda s: s.partition(partitions=3), "numbers", "loses", False),
    "robin": (lambda s: s.partition("round_robin"), "numbers", "loses", False),
    "union": (lambda s: s.union(s.map(abs)), "numbers", "loses", True),
    "mixed": (lambda s: s.union(numbers_in_arrays(s)), "numbers", "loses", True),
    "mixed and sorted": (lambda s: s.union(numbers_in_arrays(s)).sort(), "numbers", "makes", True),
    "pair": (lambda s: s.map_to_tuple(lambda x: (x % 3, x)), "pairs", "keeps", False),
    "key_by": (lambda s: s.key_by(abs), "pairs", "keeps", False),
    "count_by_value": (lambda s: s.count_by_value(), "pairs", "loses", False),
    "cross": (lambda s: s.cross(s.distinct()), "pairs", "loses", True),
    "number": (lambda s: s.zip_with_index(), "pairs", "needs", False),
    "zip": (lambda s: s.zip(s.filter(lambda x: x > 0)), "pairs", "needs", False),
    "group": (lambda s: s.group_by(lambda x: x % 4).sum(), "pairs", "loses", False),
}
PAIRS = {
    "map_values": (lambda s: s.map_values(lambda v: v + 1), "pairs", "keeps", False),
    "flat_map_values": (lambda s: s.flat_map_values(lambda v: [v, v - 1]), "pairs", "keeps", True),
    "swap": (lambda s: s.map(lambda pair: (pair[1], pair[0])), "pairs", "keeps", False),
    "keyed_pipe": (lambda s: s.keyed_pipe(), "pairs", "keeps", False),
    "cache": (lambda s: s.lazy_cache(), "pairs", "keeps", False),
    "sort": (lambda s: s.sort(), "pairs", "makes", False),
    "sort by both": (lambda s: s.sort(lambda p: p[1], lambda p: p[0], descending=True), "pairs", "makes", False),
    "keyed_reduce": (lambda s: s.keyed_reduce(max), "pairs", "loses", False),
    "keyed_aggregate": (lambda s: s.keyed_aggregate(0, operator.add, operator.add), "pairs", "loses", False),
    "keyed_gather": (lambda s: s.keyed_gather().map_values(sum), "pairs", "loses", False),
    "ungrouped": (lambda s: s.keyed_gather(grouped=False), "pairs", "loses", False),
    "keyed_partition": (lambda s: s.keyed_partition(partitions=1), "pairs", "loses", False),
    "largest": (lambda s: s.group_by_key().max(), "pairs", "loses", False),
    "counts": (lambda s: s.group_by_key().count(), "pairs", "loses", False),
    "join": (lambda s: s.join(s.map_values(abs)).map_values(sum), "pairs", "loses", True),
    "left": (
        lambda s: s.join(s.filter(lambda p: p[1] > 0), "left").map_values(lambda v: v[0] + (v[1] or 0)),
        "pairs",
        "loses",
        True,
    ),
    "co_group": (
        lambda s: s.co_group(s.filter(lambda p: p[0] > 1)).map_values(lambda sides: sum(map(sum, sides))),
        "pairs",
        "loses",
        False,
    ),
    "mixed": (lambda s: s.union(pairs_in_arrays(s)).keyed_gather().map_values(sum), "pairs", "loses", False),
    "mixed join": (lambda s: s.join(pairs_in_arrays(s)).map_values(sum), "pairs", "loses", True),
    "distinct": (lambda s: s.distinct(), "pairs", "loses", False),
    "keys": (lambda s: s.keys(), "numbers", "keeps", False),
    "values": (lambda s: s.values(), "numbers", "keeps", False),
}
STEPS = {"numbers": NUMBERS, "pairs": PAIRS}


class Programs(RuleBasedStateMachine):
    """Builds a program step by step; runs it at its end."""

    executor = "inline"

    @initialize(data=st.lists(st.integers(-6, 6), max_size=12), workers=st.integers(1, 3), partitions=st.integers(1, 4))
    def begin(self, data, workers, partitions):
        self.data, self.workers, self.partitions = data, workers, partitions
        self.program = []
        self.plain, self.kind, self.ordered = PlainSet(data), "numbers", True

    def add(self, name):
        step, gives, order, grows = STEPS[self.kind][name]
        if (order == "needs" and not self.ordered) or (grows and self.plain.count() > LARGEST ** (0.5)):
            return
        self.program.append(step)
        self.plain, self.kind = step(self.plain), gives
        self.ordered = order == "makes" or (self.ordered and order != "loses")

    @precondition(lambda self: self.kind == "numbers")
    @rule(name=st.sampled_from(sorted(NUMBERS)))
    def with_numbers(self, name):
        self.add(name)

    @precondition(lambda self: self.kind == "pairs")
    @rule(name=st.sampled_from(sorted(PAIRS)))
    def with_pairs(self, name):
        self.add(name)

    def teardown(self):
        if not hasattr(self, "program"):
            return

        def job(env):
            records = TSetContext(env).parallelize(self.data, self.partitions)
            for step in self.program:
                records = step(records)
            return records.collect(), records.count(), records.is_empty(), records.top(2), records.distinct().count()

        results = run_workers(self.workers, job, executor=self.executor)
        plain = self.plain
        assert all(result == results[0] for result in results)
        found, *values = results[0]
        assert values == [plain.count(), plain.is_empty(), plain.top(2), plain.distinct().count()]
        if self.ordered:
            assert found == plain.collect()
        else:
            assert sorted(found) == sorted(plain.collect())


@pytest.mark.parametrize("executor", EXECUTORS)
def test_random_programs_give_what_lists_give(executor):
    machine = type("Programs", (Programs,), {"executor": executor})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
