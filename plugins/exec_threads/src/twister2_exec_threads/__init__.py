"""Twister2 executor with a pool of threads for functions that block: plugin ``threads`` of kind ``exec``."""

from __future__ import annotations
