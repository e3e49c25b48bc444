"""Entry point of the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.plugin import Probe, hookimpl
from twister2.spec.rm import Check, ResourceManager, ResourceManagerSpec, RmContext
from twister2_rm_mesos.config import MesosConfig

if TYPE_CHECKING:
    from collections.abc import Sequence


class MesosPlugin(ResourceManagerSpec):
    """One framework of Mesos per job, with a task for each worker."""

    api = (1, 1)
    config_class = MesosConfig

    @hookimpl
    def rm_create(self, config: MesosConfig, context: RmContext) -> ResourceManager:
        from twister2_rm_mesos.manager import MesosManager

        return MesosManager(config, context)

    @hookimpl
    def rm_probe(self, config: MesosConfig) -> Probe:
        from twister2_rm_mesos.probe import probe

        return probe(config)

    @hookimpl
    def rm_doctor(self, config: MesosConfig, context: RmContext) -> Sequence[Check]:
        from twister2_rm_mesos.probe import doctor

        return doctor(config, context.call_timeout_s)
