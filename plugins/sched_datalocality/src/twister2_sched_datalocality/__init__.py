"""Twister2 task scheduler: sources near their data: plugin ``datalocality`` of kind ``sched``."""

from __future__ import annotations
