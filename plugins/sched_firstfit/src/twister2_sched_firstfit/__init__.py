"""Twister2 task scheduler: by CPUs, memory and GPUs that tasks ask for: plugin ``firstfit`` of kind ``sched``."""

from __future__ import annotations
