"""The memory service of a worker: one owner of the budget, revocable reservations, counters.

The budget is the worker's memory limit minus what was resident when the user's function started. Operators, receive
buffers, leases and kept results hold *reservations*; Python objects are counted by sampling
(:func:`twister2.spec.batch.n_bytes`). At 70 % of the budget the service asks the largest revocable holder to shrink; at
100 %, when nobody can, :class:`~twister2.spec.errors.MemoryBudgetError` names the holders.

A holder that shrinks writes what it holds to disk: :meth:`MemoryService.scratch` gives it :class:`SpillFile` objects.
They have no names on disk, so nothing is left over however the process ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import SpillError
from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@attrs.frozen(eq=False, repr=False)
class MemoryUse(Value):
    """A snapshot. All sizes in bytes.

    :ivar limit: the worker's limit.
    :ivar baseline: resident size when the user's function started.
    :ivar reserved: sum of all reservations.
    :ivar peak: highest ``reserved`` so far.
    :ivar holders: reserved bytes by name, largest first.
    :ivar spilled: bytes written to disk so far, as they lie there. :ivar spill_files: files they were written to.
    """

    limit: int
    baseline: int
    reserved: int
    peak: int
    holders: tuple[tuple[str, int], ...]
    spilled: int = 0
    spill_files: int = 0

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

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes more than now. Call it *before* taking in what needs them.

        When this holder itself is made to shrink to find room, the bytes come on top of what it holds then.

        :raises MemoryBudgetError: as :meth:`resize`.
        """
        self.resize(self.size + size)

    @abstractmethod
    def release(self) -> None:
        """Give everything back."""


@attrs.define
class SpillCounters:
    """What was written to disk.

    :ivar values: number of values. :ivar bytes: as they lie on disk. :ivar raw_bytes: before compression.
    """

    values: int = 0
    bytes: int = 0
    raw_bytes: int = 0


class SpillFile(ABC):
    """Values on disk, in the order they were appended. Anything that may travel on an edge can be appended.

    It may be read as often as wanted and by several readers at once, also while more is appended (a reader sees what
    was there when it began). The disk space is given back by :meth:`close`, and when the last reference goes.
    """

    @abstractmethod
    def append(self, value: Any) -> None:
        """Write one value, usually a batch.

        :raises SpillError: every disk is full, or a disk failed. :raises SerializationError: it cannot be written.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Number of values."""

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """The values; arrays are read-only.

        :raises SpillError: it is closed, or what was read is not what was written.
        """

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes on disk."""

    @abstractmethod
    def close(self) -> None:
        """Give the space back. Idempotent."""


class Scratch(ABC):
    """Disk space of one named holder."""

    name: str
    counters: SpillCounters
    block_bytes: int
    """A good size in memory for one value: many can be in memory at once, and few are written per MiB."""

    @abstractmethod
    def file(self) -> SpillFile:
        """A new, empty file."""


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

    def scratch(self, name: str) -> Scratch:
        """Disk space for a holder that must shrink.

        :param name: the holder, for messages.
        :raises SpillError: there is no folder to write to.
        """
        raise SpillError(
            f"'{name}' has nowhere to spill to",
            why="this worker was given no folder for it",
            remedy="name folders with the option job.spill_dirs, or give workers more memory (job.memory_mb)",
            where=name,
        )

    @abstractmethod
    def use(self) -> MemoryUse:
        """Counters, for observers and error texts."""
