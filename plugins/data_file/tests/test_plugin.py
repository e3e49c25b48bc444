"""The plugin as the host sees it."""

from __future__ import annotations

import importlib.metadata

from twister2.spec.data import DataSpec
from twister2_data_file.backend import FileBackend
from twister2_data_file.config import FileConfig
from twister2_data_file.plugin import FilePlugin


def test_entry_point_leads_to_the_plugin():
    (entry,) = importlib.metadata.entry_points(group="twister2.data", name="file")
    assert entry.load() is FilePlugin
    assert issubclass(FilePlugin, DataSpec)


def test_plugin_and_backend_declare_the_same():
    backend = FilePlugin().data_create(FileConfig(split_mb=1.5))
    assert isinstance(backend, FileBackend)
    assert backend.config.split_mb == 1.5
    assert FilePlugin.formats == backend.formats
    assert FilePlugin.schemes == backend.schemes
