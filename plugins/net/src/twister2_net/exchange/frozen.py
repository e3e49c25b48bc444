"""States at a barrier, until they are asked for: counted in the memory budget, on disk when it gets short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2_net.spilling.queues import HeldBatches

if TYPE_CHECKING:
    from twister2.spec.memory import MemoryService


class Frozen:
    """What lanes held at the last barrier that they have passed.

    :param label: of the operator, for messages.
    """

    def __init__(self, memory: MemoryService, label: str) -> None:
        self._memory = memory
        self._name = f"{label}: state at a barrier"
        self._states: dict[int, HeldBatches[bytes]] = {}

    def __contains__(self, lane: int) -> bool:
        """Whether a lane has passed a barrier."""
        return lane in self._states

    def keep(self, lane: int, state: bytes | None) -> None:
        """Keep the state of a lane, None when it held nothing; the one of the barrier before is forgotten.

        :raises SpillError: it fits neither into memory nor on the disks.
        """
        self.forget(lane)
        line = self._states[lane] = HeldBatches(self._memory, self._name)
        if state is not None:
            line.put(state, len(state))

    def state(self, lane: int) -> bytes | None:
        """What was kept."""
        return next(self._states[lane].peek(), None)

    def forget(self, lane: int) -> None:
        """Give back the room of a lane."""
        line = self._states.pop(lane, None)
        if line is not None:
            line.close()

    def clear(self) -> None:
        """Forget everything. Idempotent."""
        for lane in list(self._states):
            self.forget(lane)
