"""Entry point of the plugin."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from twister2.spec.plugin import Probe, hookimpl
from twister2.spec.rm import Check, ResourceManager, ResourceManagerSpec, RmContext
from twister2_rm_standalone.config import StandaloneConfig

if TYPE_CHECKING:
    from collections.abc import Sequence


class StandalonePlugin(ResourceManagerSpec):
    """Processes of this machine, or threads of the calling process."""

    api = (1, 1)
    config_class = StandaloneConfig

    @hookimpl
    def rm_create(self, config: StandaloneConfig, context: RmContext) -> ResourceManager:
        if config.workers_as == "threads":
            from twister2_rm_standalone.threads import ThreadManager

            return ThreadManager(config, context)
        if config.hosts or config.hosts_file:
            from twister2_rm_standalone.hosts.manager import HostsManager

            return HostsManager(config, context)
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
        if config.hosts or config.hosts_file:
            return _probe_hosts(config)
        from twister2_rm_standalone.capacity import free_memory_mb, usable_cpus

        cpus, free_mb = usable_cpus(), free_memory_mb()
        return Probe(
            True,
            f"{cpus} CPUs, {free_mb} MiB of free memory, {sys.executable}",
            facts={"cpus": cpus, "free_memory_mb": free_mb, "python": sys.executable},
        )

    @hookimpl
    def rm_warm_up(self, config: StandaloneConfig, job_id: str) -> bool:
        if config.workers_as != "processes" or config.hosts or config.hosts_file:
            return False
        from twister2_rm_standalone.spawn import warm_up

        return warm_up(job_id)

    @hookimpl
    def rm_doctor(self, config: StandaloneConfig, context: RmContext) -> Sequence[Check]:
        if config.hosts or config.hosts_file:
            from twister2_rm_standalone.hosts.doctor import doctor

            return doctor(config, context)
        found = self.rm_probe(config)
        checks = [Check("this machine", "ok" if found.ok else "failed", found.text, found.remedy)]
        if config.workers_as == "processes":
            from twister2_rm_standalone.cgroups import outlook
            from twister2_rm_standalone.hosts.doctor import check_limits

            checks.append(check_limits("limits on this machine", config.limits, outlook()))
        return checks


def _probe_hosts(config: StandaloneConfig) -> Probe:
    """Whether the hosts are written well and ssh is here; whether they answer takes longer than a probe may."""
    from twister2.spec.errors import Twister2Error
    from twister2_rm_standalone.hosts.places import places_of
    from twister2_rm_standalone.hosts.ssh import Ssh

    try:
        names = [place.name for place in places_of(config)]
        Ssh(config, "probe")
    except Twister2Error as error:
        return Probe(False, f"{error.what}: {error.why}", error.remedy)
    return Probe(True, f"{len(names)} hosts by ssh: {', '.join(names[:10])}", facts={"hosts": names})
