"""The plugin host: finds, loads, checks and calls plugins. Nothing is imported before it is selected."""

from __future__ import annotations

from twister2.host.catalog import Catalog
from twister2.host.host import LoadedPlugin, PluginHost
from twister2.host.observers import ObserverSet
from twister2.host.records import Pins, PluginRecord

__all__ = ["Catalog", "LoadedPlugin", "ObserverSet", "Pins", "PluginHost", "PluginRecord"]
