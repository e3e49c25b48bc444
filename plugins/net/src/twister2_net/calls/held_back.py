"""What a worker has put for a source that is a mark ahead of its other sources, and that cannot leave before theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import n_bytes, own
from twister2.spec.channel import HeaderKind
from twister2_net.spilling.queues import HeldBatches

if TYPE_CHECKING:
    from twister2.spec.memory import MemoryService
    from twister2.spec.ops import Operator

_Entry = tuple[int, Any]
"""A kind of mark with its value, or :data:`_BATCH` and a batch, or :data:`_FINISH`."""
_BATCH, _FINISH = -1, -2


class HeldBack:
    """Lines of batches and marks by source, first in first out. They go to disk when memory gets short.

    A target aligns closing marks over its inputs: behind one it reads nothing before all have brought it. When one
    source of a worker is ahead of another, room for it comes only once the worker sends the other's mark; if ``put``
    waited for room then, it would wait for its own caller.
    """

    def __init__(self, memory: MemoryService, label: str, operator: Operator) -> None:
        self._memory = memory
        self._name = f"{label}: put ahead of a mark of other sources"
        self._operator = operator
        self._lines: dict[int, HeldBatches[_Entry]] = {}
        self._first: dict[int, _Entry] = {}

    def __contains__(self, source: int) -> bool:
        return source in self._first

    def __bool__(self) -> bool:
        return bool(self._first)

    def put(self, source: int, batch: Any) -> None:
        """Hold a batch back.

        :raises SpillError: it fits neither into memory nor on the disks.
        """
        batch = own(batch)
        self._enter(source, (_BATCH, batch), n_bytes(batch))

    def mark(self, source: int, kind: HeaderKind, value: Any) -> None:
        """Hold a mark back."""
        self._enter(source, (int(kind), value), 0)

    def finish(self, source: int) -> None:
        """Hold the end back."""
        self._enter(source, (_FINISH, None), 0)

    def _enter(self, source: int, entry: _Entry, size: int) -> None:
        if source not in self._first:
            self._first[source] = entry
            return
        line = self._lines.get(source)
        if line is None:
            line = self._lines[source] = HeldBatches(self._memory, self._name)
        line.put(entry, size)

    def progress(self) -> bool:
        """Send what has room now; whether anything had."""
        moved = False
        for source in list(self._first):
            while source in self._first and self._leaves(source, *self._first[source]):
                moved = True
                line = self._lines.get(source)
                if line:
                    self._first[source] = line.get()
                else:
                    del self._first[source]
        return moved

    def _leaves(self, source: int, kind: int, value: Any) -> bool:
        if kind == _BATCH:
            return self._operator.send(source, value)
        if kind == _FINISH:
            self._operator.finish(source)
        else:
            self._operator.mark(source, HeaderKind(kind), value)
        return True

    def close(self) -> None:
        """Forget everything. Idempotent."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        self._first.clear()
