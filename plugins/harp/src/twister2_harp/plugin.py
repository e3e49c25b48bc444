"""Entry point of the plugin."""

from __future__ import annotations

from twister2.spec.api import ApiSpec


class HarpPlugin(ApiSpec):
    """Harp, imported by name."""

    api = (1, 0)
    module = "twister2_harp"
    summary = "bulk-synchronous collectives on arrays, objects and tables: allreduce, regroup, push, pull, rotate..."
