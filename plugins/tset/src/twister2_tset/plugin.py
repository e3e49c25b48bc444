"""Entry point of the plugin."""

from __future__ import annotations

from twister2.spec.api import ApiSpec


class TSetPlugin(ApiSpec):
    """TSets, imported by name."""

    api = (1, 0)
    module = "twister2_tset"
    summary = "typed distributed data: map, filter, keyed_reduce, group_by, join, sort, distinct, collect, cache..."
