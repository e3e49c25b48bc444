from __future__ import annotations

from twister2.spec.rm import RmContext
from twister2_rm_standalone.config import StandaloneConfig
from twister2_rm_standalone.plugin import StandalonePlugin
from twister2_testkit.rm import ResourceManagerSuite


class TestStandalone(ResourceManagerSuite):
    def make_backend(self, state_dir):
        return StandalonePlugin().rm_create(config=StandaloneConfig(), context=RmContext(str(state_dir)))

    def doctor(self, state_dir):
        return StandalonePlugin().rm_doctor(config=StandaloneConfig(), context=RmContext(str(state_dir)))


class TestStandaloneWithWorlds(ResourceManagerSuite):
    """What a job needs that asks for no world is as without the option."""

    def make_backend(self, state_dir):
        config = StandaloneConfig(mpiexec="mpiexec.openmpi")
        return StandalonePlugin().rm_create(config=config, context=RmContext(str(state_dir)))
