"""Operators that wait, lose marks, or keep what they hold when they are closed: the test meant for it rejects each."""

from __future__ import annotations

import attrs
import pytest

from twister2.spec.errors import Twister2Error
from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin
from twister2_testkit.mutants.ops_base import Sound, mutant
from twister2_testkit.mutants.ops_life import KEEPING, WAITING, LosesWatermarks
from twister2_testkit.ops import OperatorSuite, OpsCapabilities

ALL = OpsCapabilities(**dict.fromkeys(set(attrs.fields_dict(OpsCapabilities)) - {"why"}, True))


def suite_of(fault, deadline):
    class Suite(OperatorSuite):
        capabilities = ALL
        deadline_s = deadline
        transport = "loopback"

        def make_operators(self):
            return mutant(fault)(NetPlugin().ops_create(config=NetConfig(batch_records=16)))

    return Suite()


def called(cases):
    return pytest.mark.parametrize(("fault", "test"), cases.items(), ids=[fault.__name__ for fault in cases])


@called(WAITING)
def test_an_operator_that_waits_is_rejected(fault, test):
    """It would wait for ever, however long the deadline is; which worker says so first is chance."""
    with pytest.raises((Twister2Error, AssertionError)):
        getattr(suite_of(fault, 3.0), test)()


@called(KEEPING)
def test_an_operator_that_keeps_what_it_holds_is_rejected(fault, test):
    with pytest.raises(AssertionError, match="still reserved after close"):
        getattr(suite_of(fault, 60.0), test)()


def test_an_operator_that_loses_watermarks_is_rejected():
    with pytest.raises(AssertionError, match="watermarks of"):
        suite_of(LosesWatermarks, 60.0).test_every_operator_lives_and_ends()


@pytest.mark.parametrize("test", sorted({*WAITING.values(), *KEEPING.values(), "test_every_operator_lives_and_ends"}))
def test_an_operator_that_does_neither_is_accepted(test):
    getattr(suite_of(Sound, 60.0), test)()
