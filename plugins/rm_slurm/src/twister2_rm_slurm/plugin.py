"""Entry point of the plugin."""

from __future__ import annotations

from twister2.spec.plugin import Probe, hookimpl
from twister2.spec.rm import ResourceManager, ResourceManagerSpec, RmContext
from twister2_rm_slurm.config import SlurmConfig


class SlurmPlugin(ResourceManagerSpec):
    """One batch job of Slurm for the job master and all workers."""

    api = (1, 0)
    config_class = SlurmConfig

    @hookimpl
    def rm_create(self, config: SlurmConfig, context: RmContext) -> ResourceManager:
        from twister2_rm_slurm.manager import SlurmManager

        return SlurmManager(config, context)

    @hookimpl
    def rm_probe(self, config: SlurmConfig) -> Probe:
        from twister2_rm_slurm.probe import probe

        return probe(config)
