"""Entry point of the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.plugin import Probe, hookimpl
from twister2.spec.rm import Check, ResourceManager, ResourceManagerSpec, RmContext
from twister2_rm_nomad.config import NomadConfig

if TYPE_CHECKING:
    from collections.abc import Sequence


class NomadPlugin(ResourceManagerSpec):
    """One batch job of Nomad for the job master and all workers."""

    api = (1, 1)
    config_class = NomadConfig

    @hookimpl
    def rm_create(self, config: NomadConfig, context: RmContext) -> ResourceManager:
        from twister2_rm_nomad.manager import NomadManager

        return NomadManager(config, context)

    @hookimpl
    def rm_probe(self, config: NomadConfig) -> Probe:
        from twister2_rm_nomad.probe import probe

        return probe(config)

    @hookimpl
    def rm_doctor(self, config: NomadConfig, context: RmContext) -> Sequence[Check]:
        from twister2_rm_nomad.probe import doctor

        return doctor(config, context.call_timeout_s)
