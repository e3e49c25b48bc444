"""What arrives at one target, put in order of its sources, so that the same records come in the same order every run.

Everything up to a mark is held at the target, on disk when memory gets short. Leaving it in the channels instead would
stop the sources of a worker that wait behind one another.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twister2.spec.batch import n_bytes
from twister2.spec.channel import HeaderKind, Item
from twister2_net.spilling.queues import HeldBatches

if TYPE_CHECKING:
    from twister2.spec.batch import Batch
    from twister2.spec.memory import MemoryService


class InOrder:
    """Items of one target.

    :param name: of the holder, for messages.
    """

    def __init__(self, memory: MemoryService, name: str) -> None:
        self._memory = memory
        self._name = name
        self._lines: dict[int, HeldBatches[Batch]] = {}
        self._target = -1
        self.ready: deque[Item | tuple[int, HeldBatches[Batch]]] = deque()
        """What can be handed out: batches by source, then the mark that came behind them."""

    def take(self, item: Item) -> None:
        """Hold a batch; a mark lets go all that came before it."""
        if item.kind == HeaderKind.DATA:
            self._target = item.target
            line = self._lines.get(item.source)
            if line is None:
                line = self._lines[item.source] = HeldBatches(self._memory, self._name)
            line.put(item.value, n_bytes(item.value))
            return
        for source in sorted(self._lines):
            self.ready.append((source, self._lines[source]))
        self.ready.append(item)
        self._lines = {}

    def next(self) -> Item:
        """The next item that is ready."""
        first = self.ready[0]
        if isinstance(first, Item):
            self.ready.popleft()
            return first
        source, line = first
        value = line.get()
        if not line:
            line.close()
            self.ready.popleft()
        return Item(HeaderKind.DATA, source, self._target, value)

    def close(self) -> None:
        """Forget everything."""
        lines = [*self._lines.values(), *(first[1] for first in self.ready if not isinstance(first, Item))]
        for line in lines:
            line.close()
        self._lines = {}
        self.ready.clear()
