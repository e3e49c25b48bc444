"""What came to local targets while their worker waited to send, and has not been read yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import n_bytes
from twister2.spec.channel import HeaderKind, Item
from twister2_net.spilling.queues import HeldBatches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twister2.spec.memory import MemoryService


class TakenIn:
    """Lines of items by target, first in first out. They count in the memory budget and go to disk when it gets short.

    Behind a barrier mark nothing is taken in before the mark was read: what an operator holds at a barrier can be asked
    for until then.
    """

    def __init__(self, memory: MemoryService, label: str) -> None:
        self._memory = memory
        self._name = f"{label}: taken in while put waits"
        self._lines: dict[int, HeldBatches[tuple[int, int, Any]]] = {}
        self._at_barrier: set[int] = set()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def take(self, targets: Iterable[int], receive: Callable[[int], Item | None]) -> bool:
        """Take in what has come to some targets; whether anything had.

        :raises SpillError: it does not fit into memory, nor on the disks.
        """
        moved = False
        for target in targets:
            while target not in self._at_barrier and (item := receive(target)) is not None:
                moved = True
                line = self._lines.get(target)
                if line is None:
                    line = self._lines[target] = HeldBatches(self._memory, self._name)
                data = item.kind == HeaderKind.DATA
                line.put((int(item.kind), item.source, item.value), n_bytes(item.value) if data else 0)
                if item.kind == HeaderKind.BARRIER:
                    self._at_barrier.add(target)
        return moved

    def get(self, target: int) -> Item | None:
        """The oldest item of a target, or None."""
        line = self._lines.get(target)
        if not line:
            return None
        kind, source, value = line.get()
        if kind == HeaderKind.BARRIER:
            self._at_barrier.discard(target)
        return Item(HeaderKind(kind), source, target, value)

    def close(self) -> None:
        """Forget everything. Idempotent."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        self._at_barrier.clear()
