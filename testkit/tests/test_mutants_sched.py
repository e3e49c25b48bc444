"""The scheduler suite accepts a sound scheduler and rejects each mutant."""

from __future__ import annotations

import pytest

from twister2_testkit.mutants.sched import MUTANTS
from twister2_testkit.rejects import failures
from twister2_testkit.sched import SchedCapabilities, SchedSuite


def suite_for(name):
    class Suite(SchedSuite):
        capabilities = SchedCapabilities(limits_tasks=True, balances=True, keeps_groups=True)
        plugin = f"twister2_testkit.mutants.sched:{name}Plugin"

    return Suite


class TestSound(suite_for("Sound")):
    pass


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_suite_rejects(mutant):
    assert failures(suite_for(mutant.__name__), first=True), f"nothing rejects {mutant.__name__}"
