"""Twister2 executor in one thread, in a fixed order: plugin ``inline`` of kind ``exec``."""

from __future__ import annotations
