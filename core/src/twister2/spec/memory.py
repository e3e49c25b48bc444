"""The memory service of a worker: one owner of the budget, revocable reservations, counters.

The budget is the worker's memory limit minus what was resident when the user's function started. Operators, receive
buffers, leases and kept results hold *reservations*; Python objects are counted by sampling
(:func:`twister2.spec.batch.n_bytes`). At 90 % of the limit the service asks the largest revocable holder to shrink; at
100 %, when nobody can, :class:`~twister2.spec.errors.MemoryBudgetError` names the holders.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.frozen
class MemoryUse:
    """A snapshot. All sizes in bytes.

    :ivar limit: the worker's limit.
    :ivar baseline: resident size when the user's function started.
    :ivar reserved: sum of all reservations.
    :ivar peak: highest ``reserved`` so far.
    :ivar holders: reserved bytes by name, largest first.
    """

    limit: int
    baseline: int
    reserved: int
    peak: int
    holders: tuple[tuple[str, int], ...]

    @property
    def budget(self) -> int:
        return max(0, self.limit - self.baseline)


class Reservation(ABC):
    """Bytes held by one named holder. Not thread-safe unless the service says so; ``release`` is idempotent."""

    name: str

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes held now."""

    @abstractmethod
    def resize(self, size: int) -> None:
        """Hold ``size`` bytes from now on.

        Growing may first make revocable holders (this one included) shrink.

        :raises MemoryBudgetError: the budget would be exceeded and nothing can shrink; the reservation is unchanged.
        """

    @abstractmethod
    def release(self) -> None:
        """Give everything back."""


class MemoryService(ABC):
    """The budget of one worker. Called by the thread that runs the step."""

    @abstractmethod
    def reserve(self, name: str, size: int = 0, *, revoke: Callable[[int], int] | None = None) -> Reservation:
        """Open a reservation of ``size`` bytes.

        :param name: the holder, for messages: operator and edge, e.g. ``"keyed_reduce counts"``.
        :param revoke: makes the holder revocable. Called with the bytes wanted; spills, calls
            :meth:`Reservation.resize` and returns the bytes freed (0 when it cannot now). Must not reserve itself.
        :raises MemoryBudgetError: as :meth:`Reservation.resize`.
        """

    @abstractmethod
    def use(self) -> MemoryUse:
        """Counters, for observers and error texts."""
