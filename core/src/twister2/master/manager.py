"""What the state machine asks of the resource manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.control.ticket import Ticket


class Manager(Protocol):
    """All calls return at once."""

    def publish(self, ticket: Ticket) -> None:
        """Put the ticket where the workers of the attempt find it."""

    def start_attempt(self, attempt: int, slots: Sequence[int]) -> None:
        """Start new copies for these slots."""

    def restarts(self, slots: Sequence[int]) -> bool:
        """Whether new copies for these slots can be started."""
