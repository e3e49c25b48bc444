"""What is on its way between this worker and others: how much there may be, and that the memory service knows of it.

Each channel has a window. Where the worker has a memory budget, the channels that lead to one worker share a part of it
besides: once that is used up, a channel may send only if nothing of its own is under way. So every channel goes on,
whatever the others do, and what is under way of many channels does not add up.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from twister2.spec.errors import MemoryBudgetError

if TYPE_CHECKING:
    from twister2.config.job import NetworkConfig
    from twister2.spec.memory import MemoryService, Reservation

SHARE = 8
"""The budget divided by this may be under way from a worker, and about as much to it."""

LEAST_BYTES = 64 << 10
"""May be under way to each worker, however small the budget is."""

_STEP = 1 << 20
"""Bytes by which a count may change before the memory service is told; less where the budget is small."""

_REMEDY = (
    "what came at once is too large: send it in smaller parts (lists of records, or arrays of fewer rows), or give "
    "workers more memory (job.memory_mb)"
)


class Peer:
    """What all channels to one worker have under way, in bytes."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class UnderWay:
    """The windows of one worker, and its counts.

    :param memory: None: nothing is counted, and windows are as configured. :param size: number of workers.
    """

    def __init__(self, config: NetworkConfig, memory: MemoryService | None, size: int) -> None:
        self.window_messages = config.window_messages
        self.window_bytes = config.window_mb << 20
        use = memory.use() if memory is not None else None
        self.limited = use is not None and use.limit > 0
        """Whether what workers have under way is bounded."""
        self.peer_bytes = sys.maxsize
        self._step = _STEP
        self._most_told = sys.maxsize
        if use is not None and self.limited:
            self.peer_bytes = max(LEAST_BYTES, use.budget // SHARE // size)
            self._step = max(1 << 12, min(_STEP, use.budget // 256))
            self._most_told = use.budget // 4
        self._peers: dict[int, Peer] = {}
        self.received = self._received_told = 0
        """Bytes that have come in and wait to be received."""
        self._sent = self._sent_told = 0
        self._rooms: tuple[Reservation, Reservation] | None = None
        if memory is not None:
            self._rooms = memory.reserve("network: received, not taken yet"), memory.reserve("network: sent, not taken")

    def peer(self, worker: int) -> Peer:
        """What channels to a worker share."""
        peer = self._peers.get(worker)
        if peer is None:
            peer = self._peers[worker] = Peer()
        return peer

    def hold(self, size: int) -> None:
        """Count bytes that have come in and wait to be received (negative: were received).

        :raises MemoryBudgetError: it is far more than the windows let in, and the budget is exhausted.
        """
        self.received += size
        if self._rooms is not None and self._is_news(self.received, self._received_told):
            self._received_told = self.received
            if self.received >= _STEP:
                try:
                    self._rooms[0].resize(self.received)
                except MemoryBudgetError as error:
                    error.remedy = _REMEDY
                    raise
            else:
                self._tell(self._rooms[0], self.received)

    def sent(self, size: int) -> None:
        """Count bytes that were sent (negative: nothing of them is under way any more)."""
        self._sent += size
        if self._rooms is not None and self._is_news(self._sent, self._sent_told):
            self._sent_told = self._sent
            self._tell(self._rooms[1], self._sent)

    def _tell(self, room: Reservation, count: int) -> None:
        """Holders are asked to shrink; what does not fit nevertheless is there already, and windows stop the sender.

        Most of the budget is left to others: a batch may be larger than it.
        """
        with contextlib.suppress(MemoryBudgetError):
            room.resize(min(max(0, count), self._most_told))

    def _is_news(self, count: int, told: int) -> bool:
        return abs(count - told) >= self._step or (not count and told > 0)

    def close(self) -> None:
        """Give everything back. Idempotent."""
        for room in self._rooms or ():
            room.release()
