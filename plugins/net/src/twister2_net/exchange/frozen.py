"""States at barriers, until they are asked for: counted in the memory budget, on disk when it gets short.

A lane may pass several barriers before a target reads the first of them, so its states are kept in line. What is asked
for is the state at the last barrier that *all* local targets have read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.channel import HeaderKind
from twister2_net.spilling.queues import HeldBatches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twister2.spec.memory import MemoryService


class Frozen:
    """What lanes held at the barriers that they have passed.

    :param targets: the local targets. :param label: of the operator, for messages.
    """

    def __init__(self, memory: MemoryService, label: str, targets: Iterable[int]) -> None:
        self._memory = memory
        self._name = f"{label}: state at a barrier"
        self._read = dict.fromkeys(targets, 0)
        self._level = 0
        self._passed: dict[int, int] = {}
        self._states: dict[tuple[int, int], HeldBatches[bytes]] = {}

    def keep(self, lane: int, state: bytes | None) -> None:
        """A lane passes a barrier: keep its state, None when it held nothing.

        :raises SpillError: it fits neither into memory nor on the disks.
        """
        number = self._passed[lane] = self._passed.get(lane, 0) + 1
        line = self._states[lane, number] = HeldBatches(self._memory, self._name)
        if state is not None:
            line.put(state, len(state))

    def handed(self, target: int, kind: HeaderKind) -> None:
        """A target has read a mark. States at barriers before the last that all have read are forgotten."""
        if kind == HeaderKind.BARRIER:
            self._read[target] += 1
        elif kind == HeaderKind.END:
            del self._read[target]
        else:
            return
        level = min(self._read.values(), default=self._level)
        if level > self._level:
            self._level = level
            for place in [place for place in self._states if place[1] < level]:
                self._states.pop(place).close()

    def state(self, lane: int, now: Callable[[], bytes | None]) -> bytes | None:
        """What a lane held at the last barrier that all targets have read, else at the first it has passed.

        :param now: gives what it holds now, for a lane that has passed no such barrier.
        """
        kept = self._states.get((lane, max(1, self._level)))
        return now() if kept is None else next(kept.peek(), None)

    def clear(self) -> None:
        """Forget everything. Idempotent."""
        for line in self._states.values():
            line.close()
        self._states.clear()
