"""The memory service of a worker: reservations against one budget, and who must shrink when it is nearly used up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.errors import MemoryBudgetError
from twister2.spec.memory import MemoryService, MemoryUse, Reservation, Scratch
from twister2.worker.processes import give_back_free_pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.worker.spill import Spill

HIGH_WATER = 0.7
"""Share of the budget from which on revocable holders are asked to shrink: who shrinks makes copies while it sorts and
writes, and memory is not given back by the C library to the last page.
"""


TRIM_BYTES = 16 << 20
"""When a holder shrinks by so much at once, free pages are given back to the kernel: what comes next may be of other
sizes."""


class _Held(Reservation):
    __slots__ = ("_memory", "_open", "_revoke", "_size", "name")

    def __init__(self, memory: Memory, name: str, revoke: Callable[[int], int] | None) -> None:
        self.name = name
        self._memory = memory
        self._revoke = revoke
        self._size = 0
        self._open = True

    @property
    def size(self) -> int:
        return self._size

    def resize(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"a reservation cannot have {size} bytes")
        self._memory._add(self, size - self._size, size)

    def grow(self, size: int) -> None:
        if size < -self._size:
            raise ValueError(f"a reservation of {self._size} bytes cannot grow by {size}")
        self._memory._add(self, size, -1)

    def release(self) -> None:
        self._memory._release(self)


class Memory(MemoryService):
    """See :class:`twister2.spec.memory.MemoryService`.

    :param limit_bytes: the worker's memory limit; 0 means no limit: everything is counted, nothing refused.
    :param baseline_bytes: resident size when the user's function starts.
    :param spill: where holders that must shrink write to; without it :meth:`scratch` raises.
    """

    def __init__(self, limit_bytes: int, baseline_bytes: int = 0, spill: Spill | None = None) -> None:
        self._limit = limit_bytes
        self._baseline = baseline_bytes
        self._budget = max(0, limit_bytes - baseline_bytes) if limit_bytes else 0
        self._high = int(self._budget * HIGH_WATER)
        self._spill = spill
        self._reserved = 0
        self._peak = 0
        self._holders: dict[int, _Held] = {}
        self._revoking = False

    def reserve(self, name: str, size: int = 0, *, revoke: Callable[[int], int] | None = None) -> Reservation:
        held = _Held(self, name, revoke)
        self._holders[id(held)] = held
        try:
            held.resize(size)
        except MemoryBudgetError:
            self._release(held)
            raise
        return held

    def scratch(self, name: str) -> Scratch:
        if self._spill is None:
            return super().scratch(name)
        return self._spill.scratch(name, self._budget)

    def use(self) -> MemoryUse:
        by_name: dict[str, int] = {}
        for held in self._holders.values():
            by_name[held.name] = by_name.get(held.name, 0) + held._size
        holders = tuple(sorted(by_name.items(), key=lambda pair: (-pair[1], pair[0])))
        written, files = (0, 0) if self._spill is None else (self._spill.written, self._spill.files)
        return MemoryUse(self._limit, self._baseline, self._reserved, self._peak, holders, written, files)

    def _add(self, held: _Held, growth: int, size: int) -> None:
        """Let a holder grow, to ``size`` in all unless that is -1: the caller knows its new size, or only what is new.

        The common case, room enough, costs a few comparisons.
        """
        if growth > 0 and self._limit and not self._revoking and self._reserved + growth > self._high:
            self._make_room(growth)
            # the holder itself may have shrunk to make room
            growth = growth if size < 0 else size - held._size
            if self._reserved + growth > self._budget:
                raise self._exhausted(held, growth)
        if not held._open:
            return  # released (perhaps while it shrank): it holds nothing
        self._reserved = reserved = self._reserved + growth
        held._size += growth
        if reserved > self._peak:
            self._peak = reserved
        if growth <= -TRIM_BYTES and self._limit:
            give_back_free_pages()

    def _make_room(self, growth: int) -> None:
        """Ask revocable holders, the largest first, until the new size is below the high-water mark."""
        high = self._high
        self._revoking = True
        try:
            for holder in sorted(self._holders.values(), key=lambda one: -one._size):
                wanted = self._reserved + growth - high
                if wanted <= 0:
                    return
                if holder._revoke is not None and holder._size and holder._open:
                    holder._revoke(wanted)
        finally:
            self._revoking = False

    def _release(self, held: _Held) -> None:
        if self._holders.pop(id(held), None) is not None:
            self._reserved -= held._size
        held._size = 0
        held._open = False

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
