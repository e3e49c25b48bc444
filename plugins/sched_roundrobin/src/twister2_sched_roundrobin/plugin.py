"""Entry point of the plugin; the scheduler is imported when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.plugin import hookimpl
from twister2.spec.sched import SchedSpec

from .config import RoundRobinConfig

if TYPE_CHECKING:
    from twister2.spec.sched import TaskScheduler


class RoundRobinPlugin(SchedSpec):
    """Task k on worker k mod W."""

    api = (1, 0)
    config_class = RoundRobinConfig

    @hookimpl
    def sched_create(self, config: Any) -> TaskScheduler:
        """Make the scheduler."""
        from .scheduler import RoundRobin

        return RoundRobin(config)
