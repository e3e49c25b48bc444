from __future__ import annotations

import pytest

from twister2.spec.rm import RmContext
from twister2_rm_standalone.plugin import StandalonePlugin
from twister2_testkit.rm import ResourceManagerSuite

pytestmark = [pytest.mark.needs_hosts, pytest.mark.timeout(240)]


class HostsOwn(set):
    """Variables in which copies of several hosts may differ: the ticket's path, and the host's own folders."""

    def __contains__(self, name):
        return super().__contains__(name) or name in ("TWISTER2_TICKET", "XDG_STATE_HOME")


class TestHosts(ResourceManagerSuite):
    n_workers = 3

    @pytest.fixture(autouse=True)
    def _rig(self, transparent_rig):
        self.rig = transparent_rig
        yield
        self.rig.until_nothing_is_left()

    def make_backend(self, state_dir):
        context = RmContext(str(state_dir))
        return StandalonePlugin().rm_create(config=self.rig.config(), context=context)

    def own_variables(self):
        return HostsOwn(super().own_variables())

    def doctor(self, state_dir):
        return StandalonePlugin().rm_doctor(config=self.rig.config(), context=RmContext(str(state_dir)))
