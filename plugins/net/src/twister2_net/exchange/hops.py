"""Operators that go from worker to worker along :mod:`~twister2_net.exchange.ways`: marks are aligned at each hop.

Every way of a worker has its own aligner over its inputs, so one rule does for trees, chains and direct exchange: a
mark leaves over a way once all inputs of the way have brought it, behind everything they brought before. An input is
not read while a way waits for a closing mark of others, nor while an output it feeds has no credit: back-pressure goes
from hop to hop to the sources.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.channel import HeaderKind, Item
from twister2_net.exchange.alignment import Aligner
from twister2_net.exchange.lanes import DATA, END, LaneOperator, workers_of
from twister2_net.exchange.ways import HERE, LOCAL, Way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.batch import Batch

_AT_ONCE = 32
_UNREAD = 64
_NOWHERE = -2


class Flow:
    """A way of this worker in one run.

    :ivar inputs: ranks, or ``~source`` for a local source. :ivar held: what a combining way holds, by input.
    :ivar late: WATERMARK and IDLE that wait for the records before them.
    """

    __slots__ = ("aligner", "held", "inputs", "late", "outputs", "role")

    def __init__(self, way: Way, inputs: Sequence[int], label: str) -> None:
        self.inputs = inputs
        self.outputs = way.outputs
        self.role = way.role
        self.aligner = Aligner(inputs, label)
        self.held: dict[int, Any] = {}
        self.late: list[tuple[HeaderKind, Any]] = []


class HopOperator(LaneOperator):
    """Base. Lanes are the workers that hold a source or a target."""

    @abstractmethod
    def layout(self, me: int, sources: list[int], targets: list[int]) -> list[Way]:
        """The ways of rank ``me``; ``sources`` and ``targets`` are the ranks that have some."""

    def data(self, flow: Flow, origin: int, value: Any) -> None:
        """Something came over an input of a flow."""
        for output in flow.outputs:
            self.out(output, value)

    @abstractmethod
    def here(self, value: Any) -> None:
        """Deliver to the local targets what came to them."""

    def leaves(self, flow: Flow, kind: HeaderKind, value: Any) -> None:
        """A mark is aligned over the inputs of a flow."""
        self.out_mark(flow, kind, value)

    # -- how -------------------------------------------------------------------------------------------------------

    def lanes(self) -> tuple[Sequence[int], Sequence[int]]:
        workers = workers_of([*self.context.sources, *self.context.targets])
        return workers, workers

    loops: ClassVar[bool] = False
    """Whether what goes from a way of a worker to another one of its own is handed over by a call. Where batches pass
    as they come it is not: a channel makes them wait while targets do not read.
    """

    @cached_property
    def _own(self) -> int:
        """The output that is a way of this worker, where that is no channel."""
        return self.my_senders[0] if self.loops and self.my_senders else _NOWHERE

    def lane_of(self, source: int) -> int:
        return self.my_senders[0]

    def aligned(self) -> dict[int, Aligner]:
        return {}  # each way has its own

    def begin(self) -> None:
        super().begin()
        self._results: dict[int, deque[Item]] = {target: deque() for target in self.local_targets}
        self._behind: dict[int, deque[tuple[HeaderKind, Any]]] = {}
        self.flows = [Flow(way, inputs, self.label) for way, inputs in self._ways]
        self._of: dict[int, list[Flow]] = {}
        for flow in self.flows:
            for origin in flow.inputs:
                self._of.setdefault(origin, []).append(flow)
        self._over = not self._of
        self._blocked: set[int] = set()

    @cached_property
    def _ways(self) -> list[tuple[Way, list[int]]]:
        """The ways and their inputs, the same in every run."""
        if not self.my_senders:
            return []
        rank = {worker: index for index, worker in enumerate(self.senders)}
        ways = self.layout(
            self.my_senders[0],
            [rank[worker] for worker in workers_of(self.context.sources)],
            [rank[worker] for worker in workers_of(self.context.targets)],
        )
        local = [~source for source in self.local_sources]
        return [(way, [origin for one in way.inputs for origin in (local if one == LOCAL else (one,))]) for way in ways]

    def out(self, output: int, value: Any) -> None:
        """Send to a rank, or deliver here."""
        if output == HERE:
            self.here(value)
        elif output == self._own:
            self._to_own(DATA, value)
        else:
            self.push(self.my_senders[0], output, DATA, value)

    def out_mark(self, flow: Flow, kind: HeaderKind, value: Any) -> None:
        """Send a mark over all outputs of a flow."""
        for output in flow.outputs:
            if output == HERE:
                self._mark_here(kind, value)
            elif output == self._own:
                self._to_own(kind, value)
            else:
                self.push(self.my_senders[0], output, kind, value)

    def out_last(self, output: int, value: Any) -> None:
        """As :meth:`out`, and END behind it."""
        if output == HERE or output == self._own:
            self.out(output, value)
            if output == HERE:
                self._mark_here(END, None)
            else:
                self._to_own(END, None)
        else:
            self.push_last(self.my_senders[0], output, value)

    def _mark_here(self, kind: HeaderKind, value: Any) -> None:
        for target, queue in self._results.items():
            queue.append(Item(kind, -1, target, value))

    def _to_own(self, kind: HeaderKind, value: Any) -> None:
        """From a way of this worker to another of its ways: by a call, unless that waits for the marks of others."""
        own = self._own
        if ~own in self._behind or own in self._closed_inputs():
            self._behind.setdefault(~own, deque()).append((kind, value))
        else:
            self._take_in(own, kind, value)

    def _take_in(self, origin: int, kind: HeaderKind, value: Any) -> None:
        if kind == DATA:
            self.came(origin, value)
        else:
            for flow in self._of[origin]:
                flow.aligner.mark(origin, kind, value)

    def give(self, target: int, source: int, batch: Batch) -> None:
        """Let a local target have a batch."""
        self._results[target].append(Item(DATA, source, target, batch))

    def _full(self) -> set[int]:
        """Outputs that cannot take more for now."""
        full = {target for _, target in self._waiting} if self._waiting else set()
        for queue in self._results.values():
            if len(queue) >= _UNREAD:
                full.add(HERE)
        return full

    def _feeds(self, origin: int, full: set[int]) -> bool:
        return any(output in full for flow in self._of[origin] for output in flow.outputs)

    def send(self, source: int, batch: Batch) -> bool:
        crowded = self._behind and len(self._behind.get(~self._own, ())) >= _UNREAD
        if (crowded or ~source in self._blocked) and not self.closed:
            return False
        return super().send(source, batch)

    def is_full(self, lane: int) -> bool:
        return bool(self._waiting)

    def came(self, origin: int, value: Any) -> None:
        """Data came over an input."""
        for flow in self._of[origin]:
            flow.aligner.active(origin)
            self.data(flow, origin, value)

    def marked(self, source: int, kind: HeaderKind, value: Any) -> None:
        if ~source in self._blocked or source in self._behind:
            self._behind.setdefault(source, deque()).append((kind, value))
        else:
            self._mark(~source, kind, value)

    def finished(self, source: int) -> None:
        self.marked(source, END, None)

    def _mark(self, origin: int, kind: HeaderKind, value: Any) -> None:
        for flow in self._of[origin]:
            flow.aligner.mark(origin, kind, value)
        while True:
            for flow in self.flows:
                ready = flow.aligner.ready
                while ready:
                    self.leaves(flow, *ready.popleft())
            self._blocked = self._closed_inputs()
            source = next((source for source in self._behind if ~source not in self._blocked), None)
            if source is None:
                break
            queue = self._behind[source]
            again = queue.popleft()
            if not queue:
                del self._behind[source]
            self._take_in(~source, *again)
        self._over = all([flow.aligner.ended for flow in self.flows])

    def _closed_inputs(self) -> set[int]:
        """Inputs whose closing mark waits for those of others."""
        closed: set[int] = set()
        for flow in self.flows:
            if flow.aligner.blocked:
                closed |= flow.aligner.blocked
        return closed

    def progress(self) -> bool:
        moved = super().progress()
        return self._absorb() or moved

    def _absorb(self) -> bool:
        """Take in what came; whether anything did."""
        if self._over or self.closed:
            return False
        lane, port = self.my_senders[0], self.port
        for count in range(_AT_ONCE):
            full = self._full()
            skip = self._blocked
            if full:
                skip = skip | {origin for origin in self._of if origin >= 0 and self._feeds(origin, full)}
            delivery = port.receive(lane, skip or ())
            if delivery is None:
                return count > 0
            if delivery.kind == DATA:
                self.came(delivery.source, delivery.value)
            else:
                self._mark(delivery.source, delivery.kind, delivery.value)
        return True

    def receive(self, target: int) -> Item | None:
        if self.closed:
            return None
        queue = self._results[target]
        if not queue:
            self._absorb()
            if not queue:
                return None
        item = queue.popleft()
        if item.kind == END:
            self._ended.add(target)
        return item

    @property
    def silent_workers(self) -> list[int]:
        return self._others({lane for flow in self.flows for lane in flow.aligner.open if lane >= 0})

    @property
    def is_complete(self) -> bool:
        return self._over and super().is_complete

    def close(self) -> None:
        if not self.closed:
            self._results = {target: deque() for target in self.local_targets}
            self.flows = []
            self._over = True
        super().close()
