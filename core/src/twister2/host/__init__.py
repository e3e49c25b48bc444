"""The plugin host: finds, loads, checks and calls plugins. Nothing is imported before it is selected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.host.catalog import Catalog
from twister2.host.host import LoadedPlugin, PluginHost
from twister2.host.records import Pins, PluginRecord

if TYPE_CHECKING:
    from twister2.host.observers import ObserverSet

__all__ = ["Catalog", "LoadedPlugin", "ObserverSet", "Pins", "PluginHost", "PluginRecord"]


def __getattr__(name: str) -> Any:
    """Observers have threads and a logger: they are imported once a job is about to start."""
    if name != "ObserverSet":
        raise AttributeError(f"module 'twister2.host' has no attribute {name!r}")
    from twister2.host.observers import ObserverSet

    return ObserverSet
