"""The receiving side of operators that hold what comes and emit it at marks: said once, for batch and for streams.

A *lane* is a target task, or a worker with several of them. What comes to a lane is :meth:`gathered`; once a FLUSH mark
or END has come over all inputs, :meth:`emit` makes batches of what is held, and nothing is kept across the mark.

* WATERMARK and IDLE wait for the next FLUSH or END: the records before them are still held, and marks follow records.
* At an aligned BARRIER the state is frozen, so that :meth:`snapshot` is right whatever comes behind it, barriers too.
* Nothing is taken in while a target has not read what was emitted for it: its sources run out of credit and wait.
"""

from __future__ import annotations

import pickle
from abc import abstractmethod
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, n_records
from twister2.spec.channel import HeaderKind, Item
from twister2_net.exchange.frozen import Frozen
from twister2_net.exchange.lanes import DATA, END, LaneOperator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_AT_ONCE = 32
"""Messages taken in before others get their turn."""

_UNREAD = 64
"""Results a target may leave unread before nothing more is taken in."""


class AggregatingOperator(LaneOperator):
    """Base of operators whose targets hold records until a mark."""

    # -- for subclasses --------------------------------------------------------------------------------------------

    @abstractmethod
    def gathered(self, lane: int, source: int, value: Any) -> None:
        """Hold what came over a channel."""

    @abstractmethod
    def emit(self, lane: int, kind: HeaderKind) -> Iterable[Batch]:
        """What is held of a lane, as batches, at a FLUSH mark or END. Called once, at once; walked over as the target
        reads, so what it walks over must not be held for the next mark as well.
        """

    @abstractmethod
    def state(self, lane: int) -> Any:
        """What is held of a lane, to be pickled; None when nothing is."""

    @abstractmethod
    def take_back(self, lane: int, state: Any) -> None:
        """Hold again what :meth:`state` gave."""

    def targets_of(self, lane: int) -> Sequence[int]:
        """The local targets that get what a lane emits."""
        return (lane,)

    def lane_to(self, target: int) -> int:
        """The receiving lane of a local target."""
        return target

    # -- how -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        super().begin()
        self._results: dict[int, deque[Iterator[Batch] | Item]] = {target: deque() for target in self.local_targets}
        self._late: dict[int, list[tuple[HeaderKind, Any]]] = {lane: [] for lane in self.my_receivers}
        self._frozen = Frozen(self.context.memory, self.label, self.local_targets)

    def progress(self) -> bool:
        moved = super().progress()
        for lane in self.my_receivers:
            moved = self.absorb(lane) or moved
        return moved

    def absorb(self, lane: int) -> bool:
        """Take in what has come for a lane; whether anything had."""
        aligner, port = self.aligners[lane], self.port
        targets = self.targets_of(lane)
        if aligner.ready:
            self._hand_on(lane)
        for count in range(_AT_ONCE):
            if any(len(self._results[target]) >= _UNREAD for target in targets):
                return count > 0
            delivery = port.receive(lane, aligner.blocked or ())
            if delivery is None:
                return count > 0
            if delivery.kind == DATA:
                aligner.active(delivery.source)
                self.gathered(lane, delivery.source, delivery.value)
            else:
                aligner.mark(delivery.source, delivery.kind, delivery.value)
                if aligner.ready:
                    self._hand_on(lane)
        return True

    def _hand_on(self, lane: int) -> None:
        """Hand on the marks that are aligned, behind what they make the lane emit."""
        ready, late = self.aligners[lane].ready, self._late[lane]
        while ready:
            kind, value = ready.popleft()
            if kind == HeaderKind.BARRIER:
                self._frozen.keep(lane, self._whole_state(lane))
            elif kind == HeaderKind.WATERMARK:
                late[:] = [(kind, value)]
                continue
            elif kind == HeaderKind.IDLE:
                late[:] = [mark for mark in late if mark[0] != kind] + [(kind, value)]
                continue
            else:
                self._give(lane, self.emit(lane, kind))
                for mark in late:
                    self._tell(lane, *mark)
                late.clear()
            self._tell(lane, kind, value)

    def _give(self, lane: int, batches: Iterable[Batch]) -> None:
        targets = self.targets_of(lane)
        if len(targets) == 1:
            self._results[targets[0]].append(iter(batches))
            return
        for batch in batches:
            for target in targets:
                self._results[target].append(iter((batch,)))

    def _tell(self, lane: int, kind: HeaderKind, value: Any) -> None:
        for target in self.targets_of(lane):
            self._results[target].append(Item(kind, -1, target, value))

    def receive(self, target: int) -> Item | None:
        if self.closed:
            return None
        queue = self._results[target]
        if not queue:
            self.absorb(self.lane_to(target))
        while queue:
            first = queue[0]
            if isinstance(first, Item):
                queue.popleft()
                self._frozen.handed(target, first.kind)
                if first.kind == END:
                    self._ended.add(target)
                return first
            for batch in first:
                if n_records(batch):
                    return Item(DATA, -1, target, batch)
            queue.popleft()
        return None

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def _whole_state(self, lane: int) -> bytes | None:
        held, late = self.state(lane), self._late[lane]
        if held is None and not late:
            return None
        return pickle.dumps((held, late), 5)

    def snapshot(self) -> bytes | None:
        states = {lane: self._frozen.state(lane, partial(self._whole_state, lane)) for lane in self.my_receivers}
        kept = {lane: state for lane, state in states.items() if state is not None}
        return pickle.dumps(kept, 5) if kept else None

    def restore(self, state: bytes) -> None:
        for lane, kept in pickle.loads(state).items():
            held, late = pickle.loads(kept)
            self._late[lane] = late
            if held is not None:
                self.take_back(lane, held)

    def close(self) -> None:
        if not self.closed:
            self._results = {target: deque() for target in self.local_targets}
            self._frozen.clear()
        super().close()
