from __future__ import annotations

import os

import pytest

from twister2.spec.rm import RmContext
from twister2_rm_mesos.config import MesosConfig
from twister2_rm_mesos.plugin import MesosPlugin
from twister2_testkit.rm import ResourceManagerSuite


class MesosOwn(set):
    """Variables of single tasks, and paths that lie in their folders."""

    def __contains__(self, name):
        return super().__contains__(name) or name.startswith(("MESOS_", "LIBPROCESS_"))


@pytest.mark.needs_mesos
@pytest.mark.timeout(180)
class TestMesos(ResourceManagerSuite):
    def config(self):
        return MesosConfig(masters=(os.environ["TWISTER2_MESOS_MASTER"],), poll_s=0.05)

    def make_backend(self, state_dir):
        return MesosPlugin().rm_create(config=self.config(), context=RmContext(str(state_dir)))

    def doctor(self, state_dir):
        return MesosPlugin().rm_doctor(self.config(), RmContext(str(state_dir)))

    def own_variables(self):
        return MesosOwn({*super().own_variables(), "TWISTER2_TICKET", "PWD"})
