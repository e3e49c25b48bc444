"""Entry point of the plugin."""

from __future__ import annotations

from typing import Any

from twister2.spec.data import DataBackend, DataSpec
from twister2.spec.plugin import hookimpl
from twister2_data_file.config import FileConfig


class FilePlugin(DataSpec):
    """Text, CSV, JSON lines, Parquet, Arrow and files of binary records."""

    api = (1, 0)
    config_class = FileConfig
    formats = ("text", "csv", "json", "parquet", "arrow", "binary")
    schemes = ("", "file", "memory", "s3", "gs", "abfs", "hdfs", "http", "https")

    @hookimpl
    def data_create(self, config: Any) -> DataBackend:
        """Build the backend; pyarrow and fsspec are loaded by what needs them."""
        from twister2_data_file.backend import FileBackend

        return FileBackend(config)
