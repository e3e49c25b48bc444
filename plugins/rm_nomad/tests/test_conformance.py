from __future__ import annotations

import pytest

from twister2.spec.rm import RmContext
from twister2_rm_nomad.config import NomadConfig
from twister2_rm_nomad.plugin import NomadPlugin
from twister2_testkit.rm import ResourceManagerSuite


class NomadsOwn(set):
    """Variables of single allocations, and paths that lie in an allocation's folder."""

    def __contains__(self, name):
        return super().__contains__(name) or name.startswith("NOMAD_")


@pytest.mark.needs_nomad
@pytest.mark.timeout(180)
class TestNomad(ResourceManagerSuite):
    def make_backend(self, state_dir):
        return NomadPlugin().rm_create(config=NomadConfig(poll_s=0.05), context=RmContext(str(state_dir)))

    def doctor(self, state_dir):
        return NomadPlugin().rm_doctor(NomadConfig(), RmContext(str(state_dir)))

    def own_variables(self):
        return NomadsOwn({*super().own_variables(), "TWISTER2_TICKET", "PWD"})
