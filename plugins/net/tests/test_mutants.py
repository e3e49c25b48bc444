"""The suite rejects every faulty catalogue made from ours, and accepts one that only passes calls on."""

from __future__ import annotations

import attrs
import pytest

from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin
from twister2_testkit import rejects
from twister2_testkit.mutants.ops import MUTANTS, Sound, mutant
from twister2_testkit.mutants.ops_keyed import KEYED_FAULTS, keeps_memory, never_spills
from twister2_testkit.mutants.ops_sets import SET_FAULTS
from twister2_testkit.ops import OperatorSuite, OpsCapabilities
from twister2_testkit.ops_aggregates import AggregateChecks
from twister2_testkit.ops_keyed import KeyedChecks
from twister2_testkit.ops_sets import SetChecks
from twister2_testkit.ops_sort import SortChecks
from twister2_testkit.ops_spill import SpillChecks
from twister2_testkit.ops_streams import StreamChecks
from twister2_testkit.rejects import failures

ALL = OpsCapabilities(**dict.fromkeys(set(attrs.fields_dict(OpsCapabilities)) - {"why"}, True))
SETS = (SortChecks, SetChecks, AggregateChecks)
OLDER = sorted({*rejects.tests_of(OperatorSuite)} - {name for part in SETS for name in vars(part)})
"""Tests of the operators that are not on whole sets."""

KEYED = {name: mutant(fault) for name, fault in KEYED_FAULTS.items()}
MEMORY = {"never_spills": never_spills, "keeps_memory": keeps_memory}
PART_OF = {
    **dict.fromkeys(["unstable", "loses_last", "unsorted_columns", "keeps_two", "last_of_equal"], SortChecks),
    **dict.fromkeys(["forgets_an_input", "swaps_sides", "shifted", "counts_anew"], SetChecks),
    **dict.fromkeys(["one_too_many", "loses_keys"], AggregateChecks),
}


def suite_of(wrap, *parts, deadline=20.0, **config):
    """These parts of the suite, against our catalogue with something changed."""

    class Suite(*parts):
        capabilities = ALL
        deadline_s = deadline
        transport = "loopback"

        def make_operators(self):
            return wrap(NetPlugin().ops_create(config=NetConfig(**config)))

    return Suite


def own(part, text=""):
    """The tests that a part has itself."""
    return [name for name in rejects.tests_of(part) if name in vars(part) and text in name]


@pytest.mark.parametrize("fault", MUTANTS)
def test_fault_is_rejected(fault):
    names = own(StreamChecks) if fault.startswith("stream_") else OLDER
    assert failures(suite_of(MUTANTS[fault], OperatorSuite, deadline=1.5, batch_records=16), first=True, names=names)


@pytest.mark.parametrize("fault", KEYED)
def test_fault_of_keyed_operators_is_rejected(fault):
    part = SpillChecks if fault == "forgets_state" else KeyedChecks
    assert failures(suite_of(KEYED[fault], part), first=True)


@pytest.mark.parametrize("fault", SET_FAULTS)
def test_fault_of_operators_on_sets_is_rejected(fault):
    part, operator = PART_OF[fault], getattr(SET_FAULTS[fault], "name", "")
    names = sorted(own(part), key=lambda name: operator not in name)
    assert failures(suite_of(mutant(SET_FAULTS[fault]), part), first=True, names=names)


@pytest.mark.parametrize("part", [SpillChecks, *SETS])
@pytest.mark.parametrize("fault", MEMORY)
def test_fault_of_memory_is_rejected(fault, part):
    names = own(part, "" if part is SpillChecks else "more_than_memory")
    assert failures(suite_of(MEMORY[fault], part), first=True, names=names)


@pytest.mark.timeout(400)  # the whole suite at once
def test_a_sound_wrapper_is_accepted():
    suite = suite_of(mutant(Sound), OperatorSuite, deadline=30.0, batch_records=16)
    assert failures(suite, names=OLDER) == []


@pytest.mark.timeout(200)
@pytest.mark.parametrize("part", SETS)
def test_a_sound_wrapper_is_accepted_by_the_tests_of_sets(part):
    assert failures(suite_of(mutant(Sound), part), names=own(part)) == []
