"""What came to local targets while their worker waited to send, and has not been read yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import n_bytes
from twister2.spec.channel import HeaderKind, Item
from twister2_net.spilling.queues import HeldBatches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.memory import MemoryService
    from twister2.spec.ops import Operator


class TakenIn:
    """Everything that comes to the local targets of an operator, read in order.

    What :meth:`take` takes in waits in a line for each target, first in first out; lines count in the memory budget and
    go to disk when it gets short. Barriers do not stop it: if they did, two workers that send behind an unread barrier
    of each other would wait for ever. So what the operator held at a barrier is kept until all targets have read the
    next one.
    """

    def __init__(self, memory: MemoryService, label: str, operator: Operator, targets: Sequence[int]) -> None:
        self._memory = memory
        self._name = f"{label}: taken in while put waits"
        self._state_name = f"{label}: states at barriers taken in"
        self._operator = operator
        self._targets = targets
        self.begin()

    def begin(self) -> None:
        """Make ready for another run."""
        self._lines: dict[int, HeldBatches[tuple[int, int, Any]]] = {}
        self._came = dict.fromkeys(self._targets, 0)
        self._read = dict.fromkeys(self._targets, 0)
        self._level = [0, 0]
        self._states: dict[int, HeldBatches[bytes | None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def take(self) -> bool:
        """Take in what has come to the targets; whether anything had.

        :raises SpillError: it does not fit into memory, nor on the disks.
        """
        moved = False
        for target in self._targets:
            self._keep()
            while (item := self._operator.receive(target)) is not None:
                moved = True
                line = self._lines.get(target)
                if line is None:
                    line = self._lines[target] = HeldBatches(self._memory, self._name)
                data = item.kind == HeaderKind.DATA
                line.put((int(item.kind), item.source, item.value), n_bytes(item.value) if data else 0)
                if self._count(self._came, target, item.kind):
                    self._keep()
        return moved

    def next(self, target: int) -> Item | None:
        """The next item of a target, or None for now."""
        line = self._lines.get(target)
        if line:
            kind, source, value = line.get()
            item: Item | None = Item(HeaderKind(kind), source, target, value)
        else:
            item = self._operator.receive(target)
            if item is not None:
                self._count(self._came, target, item.kind)
        if item is not None and self._count(self._read, target, item.kind):
            level = self._level[1]
            for number in [number for number in self._states if number < level]:
                self._states.pop(number).close()
        return item

    def snapshot(self) -> bytes | None:
        """What the operator held at the last barrier that all targets have read."""
        line = self._states.get(self._level[1])
        return self._operator.snapshot() if line is None else next(line.peek(), None)

    def _count(self, barriers: dict[int, int], target: int, kind: HeaderKind) -> bool:
        """Count the barriers that a target has; whether all targets that go on have one more."""
        if kind == HeaderKind.BARRIER:
            barriers[target] += 1
        elif kind == HeaderKind.END:
            del barriers[target]
        else:
            return False
        which = int(barriers is self._read)
        before, self._level[which] = self._level[which], min(barriers.values(), default=self._level[which])
        return self._level[which] > before

    def _keep(self) -> None:
        """Keep the state at the last barrier that has come to all targets, before anything behind it is taken in."""
        level = self._level[0]
        if level and level not in self._states:
            line = self._states[level] = HeldBatches(self._memory, self._state_name)
            state = self._operator.snapshot()
            line.put(state, 0 if state is None else len(state))

    def close(self) -> None:
        """Forget everything. Idempotent."""
        for line in self._lines.values():
            line.close()
        for state in self._states.values():
            state.close()
        self._lines.clear()
        self._states.clear()
