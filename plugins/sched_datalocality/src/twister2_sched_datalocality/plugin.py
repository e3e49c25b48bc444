"""Entry point of the plugin; the scheduler is imported when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.plugin import hookimpl
from twister2.spec.sched import SchedSpec

from .config import DataLocalityConfig

if TYPE_CHECKING:
    from twister2.spec.sched import TaskScheduler


class DataLocalityPlugin(SchedSpec):
    """Sources near their data, by measured distances."""

    api = (1, 1)
    config_class = DataLocalityConfig

    @hookimpl
    def sched_create(self, config: Any) -> TaskScheduler:
        """Make the scheduler."""
        from .scheduler import DataLocality

        return DataLocality(config)
