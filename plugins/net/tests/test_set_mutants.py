"""The parts of the suite about whole sets reject faulty operators, and accept a wrapper that passes calls on."""

from __future__ import annotations

import pytest

from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin
from twister2_testkit.mutants.ops import Sound, mutant
from twister2_testkit.mutants.ops_keyed import keeps_memory, never_spills
from twister2_testkit.mutants.ops_sets import SET_FAULTS
from twister2_testkit.ops import OpsCapabilities
from twister2_testkit.ops_aggregates import AggregateChecks
from twister2_testkit.ops_sets import SetChecks
from twister2_testkit.ops_sort import SortChecks

NAMES = ("sort", "distinct", "co_group", "cross", "zip", "number", "aggregate")
FAULTS = {**{name: mutant(fault) for name, fault in SET_FAULTS.items()}}
PART = {
    **dict.fromkeys(["unstable", "loses_last", "unsorted_columns", "keeps_two", "last_of_equal"], SortChecks),
    **dict.fromkeys(["forgets_an_input", "swaps_sides", "shifted", "counts_anew"], SetChecks),
    **dict.fromkeys(["one_too_many", "loses_keys"], AggregateChecks),
}
SPILLING = {"never_spills": never_spills, "keeps_memory": keeps_memory}


def rejections(wrap, part, only="", stop_at_first=True):
    class Suite(part):
        capabilities = OpsCapabilities(**dict.fromkeys(NAMES, True), streams=True, spills=True, arrays=True, arrow=True)
        transport = "loopback"

        def make_operators(self):
            return wrap(NetPlugin().ops_create(config=NetConfig()))

    failed = {}
    own = [name for name in vars(part) if name.startswith("test_") and only in name]
    assert own
    for name in own:
        try:
            getattr(Suite(), name)()
        except (Exception, pytest.fail.Exception) as error:
            failed[name] = error
            if stop_at_first:
                break
    return failed


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_rejected(fault):
    assert rejections(FAULTS[fault], PART[fault])


@pytest.mark.parametrize("part", [SortChecks, SetChecks, AggregateChecks])
@pytest.mark.parametrize("fault", SPILLING)
def test_a_fault_of_memory_is_rejected(fault, part):
    assert rejections(SPILLING[fault], part, only="more_than_memory")


@pytest.mark.timeout(200)
@pytest.mark.parametrize("part", [SortChecks, SetChecks, AggregateChecks])
def test_a_sound_wrapper_is_accepted(part):
    assert rejections(mutant(Sound), part, stop_at_first=False) == {}
