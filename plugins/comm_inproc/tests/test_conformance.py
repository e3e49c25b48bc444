"""The transport suite on threads."""

from __future__ import annotations

import pytest

from twister2_comm_inproc.config import InprocConfig
from twister2_comm_inproc.mailbox import registry
from twister2_comm_inproc.plugin import InprocPlugin
from twister2_testkit.comm import CommCapabilities, CommSuite


class TestInproc(CommSuite):
    capabilities = CommCapabilities(
        wait_fd=True,
        several_attempts=True,
        notices_closed_peers=True,
        over_2_gib=True,
        on_its_own=True,
        why={
            "allocates": "what is mutable is copied on its way",
            "processes": "it connects the threads of one process",
        },
    )

    @pytest.fixture(autouse=True)
    def nothing_stays_registered(self):
        yield
        assert registry().sessions() == 0

    def make_transport(self, context):
        return InprocPlugin().comm_create(config=InprocConfig(), context=context)
