"""What the parts of the operator suite about whole sets of records share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from twister2_testkit.ops_drive import flat
from twister2_testkit.ops_spill import SpillChecks

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2_testkit.ops_drive import Exchange

SMALL = 1 << 18
"""A memory budget."""


def whole(got: Any) -> list[Any]:
    """All records, target after target."""
    return [record for target in sorted(got) for record in flat(got[target])]


class AlikeChecks(SpillChecks):
    """Answers with much and with little memory."""

    def held_alike(self, exchange: Exchange, look: Callable[[Any], Any]) -> None:
        """The answer is the same when memory is short, something was spilled, and nothing is held in the end."""
        expected, plain, _ = self.held(exchange)
        got, used, after = self.held(attrs.evolve(exchange, memory_bytes=SMALL))
        assert look(got) == look(expected), f"{exchange.name}: another answer when memory is short"
        assert all(use.spilled == 0 for use in plain)
        assert any(use.spilled for use in used), f"{exchange.name}: nothing was spilled"
        assert all(use.peak <= SMALL for use in used), f"{exchange.name}: more memory than there is"
        assert all(use.reserved == 0 for use in after), f"{exchange.name}: memory is held after the end"
