"""Entry point of the plugin; the scheduler is imported when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.plugin import hookimpl
from twister2.spec.sched import SchedSpec

from .config import FirstFitConfig

if TYPE_CHECKING:
    from twister2.spec.sched import TaskScheduler


class FirstFitPlugin(SchedSpec):
    """What tasks ask for, largest first, on the first worker that has it."""

    api = (1, 0)
    config_class = FirstFitConfig

    @hookimpl
    def sched_create(self, config: Any) -> TaskScheduler:
        """Make the scheduler."""
        from .scheduler import FirstFit

        return FirstFit(config)
