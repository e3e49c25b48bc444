"""State store plugin ``file``: objects as files of a folder."""

from __future__ import annotations
