"""Entry point of the plugin; operators are imported when the catalogue is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.ops import OpsSpec
from twister2.spec.plugin import hookimpl

from .config import NetConfig

if TYPE_CHECKING:
    from twister2.spec.ops import Operators


class NetPlugin(OpsSpec):
    """Twister:Net: communication operators on any transport."""

    api = (1, 1)
    config_class = NetConfig

    @hookimpl
    def ops_create(self, config: Any) -> Operators:
        """Make the catalogue; needs no network."""
        from .catalog import NetOperators

        return NetOperators(config)
