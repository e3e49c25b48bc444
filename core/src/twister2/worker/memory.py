"""The memory service of a worker: reservations against one budget, and who must shrink when it is nearly used up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.errors import MemoryBudgetError
from twister2.spec.memory import MemoryService, MemoryUse, Reservation

if TYPE_CHECKING:
    from collections.abc import Callable

HIGH_WATER = 0.9
"""Share of the budget from which on revocable holders are asked to shrink."""


class _Held(Reservation):
    __slots__ = ("_memory", "_revoke", "_size", "name")

    def __init__(self, memory: Memory, name: str, revoke: Callable[[int], int] | None) -> None:
        self.name = name
        self._memory = memory
        self._revoke = revoke
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    def resize(self, size: int) -> None:
        self._memory._resize(self, size)

    def release(self) -> None:
        self._memory._release(self)


class Memory(MemoryService):
    """See :class:`twister2.spec.memory.MemoryService`.

    :param limit_bytes: the worker's memory limit; 0 means no limit: everything is counted, nothing refused.
    :param baseline_bytes: resident size when the user's function starts.
    """

    def __init__(self, limit_bytes: int, baseline_bytes: int = 0) -> None:
        self._limit = limit_bytes
        self._baseline = baseline_bytes
        self._budget = max(0, limit_bytes - baseline_bytes) if limit_bytes else 0
        self._reserved = 0
        self._peak = 0
        self._holders: dict[int, _Held] = {}
        self._revoking = False

    def reserve(self, name: str, size: int = 0, *, revoke: Callable[[int], int] | None = None) -> Reservation:
        held = _Held(self, name, revoke)
        self._holders[id(held)] = held
        try:
            self._resize(held, size)
        except MemoryBudgetError:
            self._release(held)
            raise
        return held

    def use(self) -> MemoryUse:
        by_name: dict[str, int] = {}
        for held in self._holders.values():
            by_name[held.name] = by_name.get(held.name, 0) + held._size
        holders = tuple(sorted(by_name.items(), key=lambda pair: (-pair[1], pair[0])))
        return MemoryUse(self._limit, self._baseline, self._reserved, self._peak, holders)

    def _resize(self, held: _Held, size: int) -> None:
        if size < 0:
            raise ValueError(f"a reservation cannot have {size} bytes")
        if id(held) not in self._holders:
            # released meanwhile (a holder that was closed while it shrank): nothing to count
            return
        growth = size - held._size
        if growth > 0 and self._limit and not self._revoking:
            self._make_room(growth)
            # the holder itself may have shrunk to make room
            growth = size - held._size
            if self._reserved + growth > self._budget:
                raise self._exhausted(held, growth)
        self._reserved += growth
        held._size = size
        self._peak = max(self._peak, self._reserved)

    def _make_room(self, growth: int) -> None:
        """Ask revocable holders, the largest first, until the new size is below the high-water mark."""
        high = int(self._budget * HIGH_WATER)
        if self._reserved + growth <= high:
            return
        self._revoking = True
        try:
            for holder in sorted(self._holders.values(), key=lambda one: -one._size):
                wanted = self._reserved + growth - high
                if wanted <= 0:
                    return
                if holder._revoke is not None and holder._size:
                    holder._revoke(wanted)
        finally:
            self._revoking = False

    def _release(self, held: _Held) -> None:
        if self._holders.pop(id(held), None) is not None:
            self._reserved -= held._size
        held._size = 0

    def _exhausted(self, held: _Held, growth: int) -> MemoryBudgetError:
        use = self.use()
        holders = ", ".join(f"{name}: {_mib(size)}" for name, size in use.holders[:5] if size) or "nobody"
        return MemoryBudgetError(
            f"'{held.name}' wants {_mib(growth)} more memory than this worker has left",
            why=f"the budget is {_mib(self._budget)} (limit {_mib(self._limit)}, {_mib(self._baseline)} in use before "
            f"the program began), {_mib(self._reserved)} are taken: {holders}",
            remedy="give workers more memory (job.memory_mb), use more workers, or keep less per worker",
            where=held.name,
            details={"holders": [list(pair) for pair in use.holders], "budget": self._budget, "wanted": growth},
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
