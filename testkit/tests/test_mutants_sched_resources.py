"""The suites for fitting and for locality accept a sound scheduler and reject each mutant."""

from __future__ import annotations

import pytest

from twister2_testkit.mutants.sched_resources import FITTING, LOCALITY
from twister2_testkit.rejects import failures
from twister2_testkit.sched import SchedCapabilities
from twister2_testkit.sched_resources import FittingSuite, LocalitySuite


def suite_for(base, name):
    class Suite(base):
        capabilities = SchedCapabilities(
            limits_tasks=True, why=dict.fromkeys(("balances", "keeps_groups"), "not what is tested here")
        )
        plugin = f"twister2_testkit.mutants.sched_resources:{name}Plugin"
        test_a_big_graph_takes_less_than_a_second = None  # these are written to be read

    return Suite


class TestSoundFitting(suite_for(FittingSuite, "SoundFitting")):
    pass


class TestSoundLocality(suite_for(LocalitySuite, "SoundLocality")):
    pass


@pytest.mark.parametrize("mutant", FITTING, ids=lambda mutant: mutant.__name__)
def test_the_fitting_suite_rejects(mutant):
    assert failures(suite_for(FittingSuite, mutant.__name__), first=True), f"nothing rejects {mutant.__name__}"


@pytest.mark.parametrize("mutant", LOCALITY, ids=lambda mutant: mutant.__name__)
def test_the_locality_suite_rejects(mutant):
    assert failures(suite_for(LocalitySuite, mutant.__name__), first=True), f"nothing rejects {mutant.__name__}"
