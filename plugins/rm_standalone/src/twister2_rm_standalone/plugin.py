"""Entry point of the plugin."""

from __future__ import annotations

import os
import sys

from twister2.spec.plugin import Probe, hookimpl
from twister2.spec.rm import ResourceManager, ResourceManagerSpec, RmContext
from twister2_rm_standalone.config import StandaloneConfig


class StandalonePlugin(ResourceManagerSpec):
    """Processes of this machine, or threads of the calling process."""

    api = (1, 0)
    config_class = StandaloneConfig

    @hookimpl
    def rm_create(self, config: StandaloneConfig, context: RmContext) -> ResourceManager:
        if config.workers_as == "threads":
            from twister2_rm_standalone.threads import ThreadManager

            return ThreadManager(config, context)
        from twister2_rm_standalone.processes import ProcessManager

        return ProcessManager(config, context)

    @hookimpl
    def rm_probe(self, config: StandaloneConfig) -> Probe:
        if config.workers_as == "processes" and not os.path.isdir("/proc/self"):
            return Probe(
                False,
                "no /proc file system: processes of a job could not be found again",
                "run on Linux with /proc mounted, or set rm.standalone.workers_as = 'threads'",
            )
        from twister2_rm_standalone.capacity import free_memory_mb, usable_cpus

        cpus, free_mb = usable_cpus(), free_memory_mb()
        return Probe(
            True,
            f"{cpus} CPUs, {free_mb} MiB of free memory, {sys.executable}",
            facts={"cpus": cpus, "free_memory_mb": free_mb, "python": sys.executable},
        )

    @hookimpl
    def rm_warm_up(self, config: StandaloneConfig, job_id: str) -> bool:
        if config.workers_as != "processes":
            return False
        from twister2_rm_standalone.spawn import warm_up

        return warm_up(job_id)
