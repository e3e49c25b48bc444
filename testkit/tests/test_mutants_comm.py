"""The transport suite accepts a sound transport and rejects each mutant, by the test that is meant to."""

from __future__ import annotations

import pytest

from twister2_testkit.comm import CommCapabilities, CommSuite
from twister2_testkit.loopback import LoopbackTransport
from twister2_testkit.mutants.comm import (
    MUTANTS,
    AcceptsOldAttempts,
    AllocatesForEver,
    AllocatesOneBuffer,
    ClosesWhenRead,
)
from twister2_testkit.rejects import failures

OPENED = {
    AcceptsOldAttempts: {"several_attempts": True},
    AllocatesForEver: {"allocates": True},
    AllocatesOneBuffer: {"allocates": True},
    ClosesWhenRead: {"notices_closed_peers": True},
}
"""What some mutants claim to be able to, so that the test that is meant for them runs."""


def suite_for(make):
    class Suite(CommSuite):
        capabilities = CommCapabilities(
            wait_fd=True,
            on_its_own=True,
            why={"*": "the transport of the kit connects threads of one attempt"},
            **OPENED.get(make, {}),
        )
        timeout_s = 1.0 if make is not LoopbackTransport else 20.0

        def make_transport(self, context):
            return make(context)

    return Suite


class TestSound(suite_for(LoopbackTransport)):
    pass


@pytest.mark.parametrize(("mutant", "test"), MUTANTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_the_suite_rejects(mutant, test):
    assert failures(suite_for(mutant), only=test), f"{test} does not reject {mutant.__name__}"
