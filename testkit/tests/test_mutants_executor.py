"""The executor suite accepts a sound executor and rejects each mutant."""

from __future__ import annotations

import pytest

from twister2_testkit.executor import ExecutorCapabilities, ExecutorSuite
from twister2_testkit.mutants.executor import MUTANTS, Sound
from twister2_testkit.rejects import failures


def suite_for(executor):
    class Suite(ExecutorSuite):
        capabilities = ExecutorCapabilities(
            checkpoints=True, why={"pool": "the mutants have none", "streams": "batch graphs only"}
        )

        def make_executor(self, context):
            return executor(context)

    return Suite


class TestSound(suite_for(Sound)):
    pass


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_suite_rejects(mutant):
    assert failures(suite_for(mutant), first=True), f"nothing rejects {mutant.__name__}"
