"""Entry point of the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.plugin import Probe, hookimpl
from twister2.spec.rm import ResourceManager, ResourceManagerSpec, RmContext
from twister2_rm_slurm.config import SlurmConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.rm import Check


class SlurmPlugin(ResourceManagerSpec):
    """One batch job of Slurm for the job master and all workers."""

    api = (1, 1)
    config_class = SlurmConfig

    @hookimpl
    def rm_create(self, config: SlurmConfig, context: RmContext) -> ResourceManager:
        from twister2_rm_slurm.inside import AnywhereManager

        return AnywhereManager(config, context)

    @hookimpl
    def rm_probe(self, config: SlurmConfig) -> Probe:
        from twister2_rm_slurm.probe import probe

        return probe(config)

    @hookimpl
    def rm_doctor(self, config: SlurmConfig, context: RmContext) -> Sequence[Check]:
        from twister2_rm_slurm.doctor import doctor

        return doctor(config, context)
