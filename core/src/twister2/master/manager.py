"""What the state machine asks of the resource manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.control.ticket import Ticket
    from twister2.spec.errors import Twister2Error
    from twister2.spec.rm import ResourceGroup

    Refused = Callable[[Twister2Error], None]


class Manager(Protocol):
    """All calls return at once."""

    def publish(self, ticket: Ticket) -> None:
        """Put the ticket where the workers of the attempt find it."""

    def start_attempt(self, attempt: int, slots: Sequence[int]) -> None:
        """Start new copies for these slots."""

    def start_more(self, attempt: int, slots: Sequence[int], refused: Refused) -> None:
        """Start copies for slots that were given up before; ``refused`` hears why they cannot be."""

    def resize(self, n_slots: int, group: ResourceGroup | None, refused: Refused) -> None:
        """Make the allocation hold so many slots, new ones of a group; ``refused`` hears why it cannot."""

    def resizes(self) -> str:
        """Why the allocation cannot change its size; empty when it can."""

    def stop(self, slots: Sequence[int]) -> None:
        """End the copies of slots that are given up."""

    def look(self) -> None:
        """Ask soon how the copies are."""

    def restarts(self, slots: Sequence[int]) -> bool:
        """Whether new copies for these slots can be started."""
