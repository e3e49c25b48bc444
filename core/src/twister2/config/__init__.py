"""Configuration: one attrs class per plugin and for the job; layers with origins; all problems at once."""

from __future__ import annotations

from twister2.config.job import CheckpointConfig, JobConfig, NetworkConfig
from twister2.config.resolve import Resolved, resolve

__all__ = ["CheckpointConfig", "JobConfig", "NetworkConfig", "Resolved", "resolve"]
