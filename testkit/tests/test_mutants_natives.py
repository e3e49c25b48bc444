"""The suite of native collectives accepts sound ones and rejects each mutant, by the test that is meant to."""

from __future__ import annotations

import pytest

from twister2_testkit.mutants.natives import MUTANTS
from twister2_testkit.native_loopback import NativeLoopback
from twister2_testkit.natives import NativeSuite
from twister2_testkit.rejects import failures


def suite_for(make, wait_s):
    class Suite(NativeSuite):
        timeout_s = wait_s

        def make_transport(self, context):
            return make(context)

    return Suite


class TestSound(suite_for(NativeLoopback, 10.0)):
    pass


@pytest.mark.parametrize(("mutant", "test"), MUTANTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_the_suite_rejects(mutant, test):
    assert failures(suite_for(mutant, 1.0), only=test), f"{test} does not reject {mutant.__name__}"
