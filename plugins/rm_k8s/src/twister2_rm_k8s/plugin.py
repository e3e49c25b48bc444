"""Entry point of the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.plugin import Probe, hookimpl
from twister2.spec.rm import Check, ResourceManager, ResourceManagerSpec, RmContext
from twister2_rm_k8s.config import KubernetesConfig

if TYPE_CHECKING:
    from collections.abc import Sequence


class KubernetesPlugin(ResourceManagerSpec):
    """Pods of Kubernetes for the job master and all workers."""

    api = (1, 1)
    config_class = KubernetesConfig

    @hookimpl
    def rm_create(self, config: KubernetesConfig, context: RmContext) -> ResourceManager:
        from twister2_rm_k8s.manager import KubernetesManager

        return KubernetesManager(config, context)

    @hookimpl
    def rm_probe(self, config: KubernetesConfig) -> Probe:
        from twister2_rm_k8s.probe import probe

        return probe(config)

    @hookimpl
    def rm_doctor(self, config: KubernetesConfig, context: RmContext) -> Sequence[Check]:
        from twister2_rm_k8s.doctor import checks

        return checks(config, context.call_timeout_s)
