"""The suite rejects every faulty catalogue made from ours, and accepts one that only passes calls on."""

from __future__ import annotations

import pytest

from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin
from twister2_testkit.mutants.ops import MUTANTS, Sound, mutant
from twister2_testkit.ops import OperatorSuite, OpsCapabilities, suite_tests
from twister2_testkit.ops_aggregates import AggregateChecks
from twister2_testkit.ops_sets import SetChecks
from twister2_testkit.ops_sort import SortChecks

CAPABILITIES = OpsCapabilities(
    direct=True, partition=True, keyed_partition=True, keyed_reduce=True, count_by_value=True, reduce=True,
    allreduce=True, gather=True, broadcast=True, barrier=True, arrays=True, arrow=True, ranges=True,
    pipe=True, allgather=True, union=True, reduce_scatter=True, alltoall=True, streams=True,
    keyed_gather=True, join=True, spills=True,
)  # fmt: skip


def rejections(wrap, stop_at_first, deadline=1.5, streams_first=False):
    class Suite(OperatorSuite):
        capabilities = CAPABILITIES
        deadline_s = deadline
        transport = "loopback"

        def make_operators(self):
            return wrap(NetPlugin().ops_create(config=NetConfig(batch_records=16)))

    failed = {}
    apart = {*vars(SortChecks), *vars(SetChecks), *vars(AggregateChecks)}  # see test_set_mutants.py
    for name in sorted(
        suite_tests(Suite).keys() - apart, key=lambda name: name.startswith("test_stream_") != streams_first
    ):
        try:
            getattr(Suite(), name)()
        except (Exception, pytest.fail.Exception) as error:
            failed[name] = error
            if stop_at_first:
                break
    return failed


@pytest.mark.parametrize("fault", MUTANTS)
def test_fault_is_rejected(fault):
    assert rejections(MUTANTS[fault], stop_at_first=True, streams_first=fault.startswith("stream_"))


@pytest.mark.timeout(400)  # the whole suite at once
def test_a_sound_wrapper_is_accepted():
    assert rejections(mutant(Sound), stop_at_first=False, deadline=30.0) == {}
