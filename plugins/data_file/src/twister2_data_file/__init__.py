"""Data plugin ``file``: text, CSV and Parquet files, local or in any store that fsspec knows."""

from __future__ import annotations
