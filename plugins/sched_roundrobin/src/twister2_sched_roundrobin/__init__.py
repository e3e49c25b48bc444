"""Twister2 task scheduler: task k on worker k mod W: plugin ``roundrobin`` of kind ``sched``."""

from __future__ import annotations
