"""What arrives at one target, put in order of its sources, so that the same records come in the same order every run.

Everything up to a mark is held at the target. Leaving it in the channels instead would stop the sources of a worker
that wait behind one another.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twister2.spec.batch import n_bytes
from twister2_net.base import DATA

if TYPE_CHECKING:
    from twister2.spec.channel import Item
    from twister2.spec.memory import Reservation


class InOrder:
    """Items of one target.

    :param room: counts the batches held; released by :meth:`close`.
    """

    def __init__(self, room: Reservation) -> None:
        self.ready: deque[Item] = deque()
        """What can be handed out: batches by source, then the mark that came behind them."""
        self._held: list[Item] = []
        self._room = room

    def take(self, item: Item) -> None:
        """Hold a batch; a mark lets go all that came before it."""
        if item.kind == DATA:
            self._room.resize(self._room.size + n_bytes(item.value))
            self._held.append(item)
            return
        self._held.sort(key=lambda held: held.source)
        self.ready.extend(self._held)
        self.ready.append(item)
        self._held = []

    def next(self) -> Item:
        """The next item that is ready."""
        item = self.ready.popleft()
        if item.kind == DATA:
            self._room.resize(max(0, self._room.size - n_bytes(item.value)))
        return item

    def close(self) -> None:
        """Forget everything."""
        self._held.clear()
        self.ready.clear()
        self._room.release()
