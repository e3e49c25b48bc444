"""What all operators have in common: lanes of a port, what waits for credit, marks, and the end.

The inputs and outputs of an operator are *lanes* of one port: tasks for operators that pass batches on, whole workers
for those that combine or fan out on a worker. What a full channel refuses waits here, in order. In batch mode ``send``
refuses while anything waits on the source's lane, so no more than what one batch became is ever held for lack of
credit. In stream mode it refuses once a batch's worth waits: what waits goes on as one batch when there is credit, so
batches are as large as the backlog, and single records move at once when there is none.

Where to begin with a new operator: :class:`~twister2_net.exchange.tasks.TaskOperator` passes batches on;
:class:`~twister2_net.exchange.aggregating.AggregatingOperator` holds what comes to a target and emits it at marks;
:class:`GatedOperator` combines on the sending worker first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sized
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import is_array, is_arrow, n_bytes, n_records, own
from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import MemoryBudgetError, OperatorError, SerializationError
from twister2.spec.ops import Operator, OperatorContext, OperatorInfo
from twister2.spec.tracebacks import short
from twister2_net.exchange.alignment import Aligner
from twister2_net.exchange.parts import Collected, form_of, without_views
from twister2_net.problems import not_sent
from twister2_net.spilling.queues import pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twister2.spec.batch import Batch
    from twister2.spec.memory import Reservation
    from twister2.spec.network import EdgeCounters, Port, Step
    from twister2_net.config import NetConfig

DATA = HeaderKind.DATA
END = HeaderKind.END
CLOSING = (HeaderKind.BARRIER, HeaderKind.FLUSH)
"""Marks behind which nothing may be taken before they are aligned."""

_BACKLOG_BYTES = 1 << 20
"""Bytes that may wait on a lane of a stream before ``send`` refuses."""

_SHARE = 8
"""The budget divided by this may come to a task at once: one message of each of its channels,"""
_LEAST_PIECE = 1 << 16
"""but no message needs to be smaller than this."""

_Entry = tuple[HeaderKind, Any, int, int]
"""A mark or batch that waits: kind, value, records, bytes."""


class LaneOperator(Operator):
    """Base of the operators here.

    :ivar context: what it was made for. :ivar label: for messages, e.g. ``"partition 'words'"``.
    :ivar stream: whether it runs on streams.
    """

    coalesces = False
    """Whether batches that wait on a channel of a stream may become one."""

    cuts = True
    """Whether a batch that takes much of the memory budget may be taken in pieces."""

    def __init__(self, info: OperatorInfo, context: OperatorContext, config: NetConfig) -> None:
        self.info = info
        self.context = context
        self.config = config
        self.label = f"{info.name} '{context.label}'" if context.label else info.name
        self.options = {name: option.default for name, option in info.options.items()} | dict(context.options)
        self.stream = context.mode == "stream"
        self.local_sources = context.local_sources
        self.local_targets = context.local_targets
        self.prepare()
        use, me = context.memory.use(), context.network.worker_id
        self.senders, self.receivers = self.lanes()
        self.my_senders = [lane for lane, worker in enumerate(self.senders) if worker == me]
        self.my_receivers = [lane for lane, worker in enumerate(self.receivers) if worker == me]
        self._weighs = (self.stream and self.coalesces) or use.limit > 0
        channels = max(2, len(self.senders), len(self.receivers))
        self._most = max(_LEAST_PIECE, use.budget // (_SHARE * channels)) if use.budget else 0
        self._begin(context.step)

    # -- for subclasses --------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Check the options and keep what lasts over resets. Called once, before the port is opened."""

    @abstractmethod
    def lanes(self) -> tuple[Sequence[int], Sequence[int]]:
        """Worker ids of the sending and of the receiving lanes of the port."""

    def inputs_of(self, lane: int) -> Iterable[int]:
        """The sending lanes that send to a receiving lane."""
        return range(len(self.senders))

    def outputs_of(self, lane: int) -> Iterable[int]:
        """The receiving lanes that a sending lane sends to."""
        return range(len(self.receivers))

    def lane_of(self, source: int) -> int:
        """The sending lane of a local source."""
        return source

    def aligned(self) -> dict[int, Aligner]:
        """What aligns marks for each receiving lane of this worker, in one run."""
        return {lane: Aligner(self.inputs_of(lane), self.label) for lane in self.my_receivers}

    def begin(self) -> None:
        """Make the state of one run. Called with the port open; calls that of its bases."""

    @abstractmethod
    def take(self, source: int, batch: Batch) -> None:
        """Take a batch of a local source and :meth:`push` what becomes of it."""

    def finished(self, source: int) -> None:
        """A local source has finished."""

    def marked(self, source: int, kind: HeaderKind, value: Any) -> None:
        """A mark of a local source."""

    # -- the port --------------------------------------------------------------------------------------------------

    def _begin(self, step: Step) -> None:
        self.port_step = step
        self.port: Port = self.context.network.open_port(step, self.context.edge, self.senders, self.receivers)
        self.aligners = self.aligned()
        self.closed = False
        self._waiting: dict[tuple[int, int], deque[_Entry]] = {}
        self._waiting_bytes = 0
        self._rest: dict[int, deque[tuple[HeaderKind, Any]]] = {}
        self._room: Reservation | None = None
        self._backlog: dict[int, list[int]] = {}
        self._finished: set[int] = set()
        self._ended: set[int] = set()
        self.begin()

    def push(self, lane: int, target: int, kind: HeaderKind, value: Any = None) -> None:
        """Send on a channel, or let it wait behind what waits already."""
        channel = (lane, target)
        queue = self._waiting.get(channel)
        if queue is None:
            if self._offer(lane, target, kind, value):
                return
            queue = self._waiting[channel] = deque()
        queue.append(self._enter(lane, kind, value))

    def push_last(self, lane: int, target: int, value: Any) -> None:
        """Send a batch and END behind it, in one message where nothing has to wait."""
        if (lane, target) in self._waiting or not self._offer(lane, target, DATA, value, last=True):
            self.push(lane, target, DATA, value)
            self.push(lane, target, END)

    def _offer(self, lane: int, target: int, kind: HeaderKind, value: Any, *, last: bool = False) -> bool:
        try:
            return self.port.send(lane, target, kind, value, last=last)
        except SerializationError as error:
            raise not_sent(error, self.label, lane if self.senders is self.context.sources else -1) from error.__cause__

    def push_all(self, lane: int, kind: HeaderKind, value: Any = None) -> None:
        """Send a mark to every output of a lane."""
        for target in self.outputs_of(lane):
            self.push(lane, target, kind, value)

    def _enter(self, lane: int, kind: HeaderKind, value: Any) -> _Entry:
        """What begins to wait on a lane: counted there, and by the memory service."""
        size = n_bytes(value) if kind == DATA and self._weighs else 0
        entry = kind, value, n_records(value) if size else 0, size
        self._weigh(lane, entry, 1)
        return entry

    def _weigh(self, lane: int, entry: _Entry, sign: int) -> None:
        """Keep the number of entries, records and bytes that wait on a lane."""
        _, _, records, size = entry
        backlog = self._backlog.setdefault(lane, [0, 0, 0])
        backlog[0] += sign
        backlog[1] += sign * records
        backlog[2] += sign * size
        if size:
            if self._room is None:
                self._room = self.context.memory.reserve(f"{self.label}: waiting to be sent")
            self._waiting_bytes += sign * size
            with suppress(MemoryBudgetError):  # it is there already: others were asked to shrink, sources are refused
                self._room.resize(self._waiting_bytes)

    def pump(self) -> bool:
        """Send what waits, as far as there is credit; whether anything left."""
        if not self._waiting:
            return False
        moved = False
        port = self.port
        for channel in list(self._waiting):
            queue = self._waiting[channel]
            while queue:
                kind, value = queue[0][:2]
                if kind == DATA:
                    if not port.can_send(*channel):
                        port.send(*channel, kind, value)  # refused: counts the time it is blocked
                        break
                    if self.coalesces and self.stream and len(queue) > 1:
                        self._coalesce(channel[0], queue)
                        value = queue[0][1]
                if not self._offer(*channel, kind, value):
                    break
                self._weigh(channel[0], queue.popleft(), -1)
                moved = True
            if not queue:
                del self._waiting[channel]
        return moved

    def _coalesce(self, lane: int, queue: deque[_Entry]) -> None:
        """Make the batches at the head of a queue one, up to a batch's worth."""
        collected = Collected()
        entries = []
        while queue and queue[0][0] == DATA and collected.count < self.config.batch_records:
            batch = queue[0][1]
            form = form_of(batch)
            if not collected.fits(form):
                break
            collected.add(batch, form)
            entries.append(queue.popleft())
        if len(entries) > 1:
            for entry in entries:
                self._weigh(lane, entry, -1)
            entries = [self._enter(lane, DATA, collected.take())]
        queue.extendleft(reversed(entries))

    @property
    def is_waiting(self) -> bool:
        """Whether anything waits for credit."""
        return bool(self._waiting)

    def is_full(self, lane: int) -> bool:
        """Whether so much waits on a lane that its sources must wait too."""
        entries, records, size = self._backlog.get(lane, (0, 0, 0))
        if not (self.stream and self.coalesces):
            return entries > 0
        return records >= self.config.batch_records or size >= _BACKLOG_BYTES or entries >= self.config.batch_records

    # -- Operator --------------------------------------------------------------------------------------------------

    def send(self, source: int, batch: Batch) -> bool:
        if self.closed or source in self._finished or source not in self.local_sources:
            raise self._misuse(source)
        if source in self._rest:
            return False
        if self._waiting:
            lane = self.lane_of(source)
            if self.is_full(lane):
                self.pump()
                if self.is_full(lane):
                    return False
        batch = own(batch) if isinstance(batch, list) else own(self._checked(source, batch))
        parts = self._parts(batch)
        if parts is None:
            self.take(source, batch)
        else:
            self._rest[source] = deque((DATA, part) for part in parts)
            self._go_on(source)
        return True

    def _checked(self, source: int, batch: Any) -> Batch:
        """What a source has sent, which is a batch.

        :raises OperatorError: it is not.
        """
        if is_arrow(batch):
            return without_views(batch)
        if batch.ndim > 0 if is_array(batch) else isinstance(batch, Sized):
            return batch
        raise OperatorError(
            f"{self.label} was given {short(batch)}",
            why=f"a batch is a list, a numpy array with an axis or an Arrow record batch, not {type(batch).__name__}",
            remedy="send records in lists, such as [record], in arrays or in Arrow batches",
            where=f"{self.label}, task {source}",
            details={"operator": self.label, "partition": source, "record": short(batch)},
        )

    def _parts(self, batch: Batch) -> Iterator[Batch] | None:
        """The parts of a batch where what becomes of it may be too much at once for who receives it; else None."""
        if not self._most or not self.cuts or not (isinstance(batch, list) or is_arrow(batch) or is_array(batch)):
            return None
        if n_records(batch) < 2 or n_bytes(batch) <= self._most:
            return None
        return pieces(self.context.memory, batch, self._most)

    def _go_on(self, source: int) -> bool:
        """Take what is left of a large batch, as far as there is room, and then what came behind it; whether anything
        was.
        """
        rest = self._rest[source]
        moved = False
        while rest:
            kind, value = rest[0]
            if kind == DATA and self._waiting and self.is_full(self.lane_of(source)):
                return moved
            rest.popleft()
            moved = True
            if kind == DATA:
                self.take(source, value)
            elif kind == END:
                self.finished(source)
            else:
                self.marked(source, kind, value)
        self._rest.pop(source, None)
        return moved

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        if self.closed or source in self._finished or source not in self.local_sources:
            raise self._misuse(source)
        if source in self._rest:
            self._rest[source].append((kind, value))
        else:
            self.marked(source, kind, value)

    def finish(self, source: int) -> None:
        if source not in self.local_sources:
            raise self._misuse(source)
        if source in self._finished or self.closed:
            return
        self._finished.add(source)
        if source in self._rest:
            self._rest[source].append((END, None))
        else:
            self.finished(source)

    @property
    def sources_finished(self) -> bool:
        """Whether all local sources have finished."""
        return len(self._finished) == len(self.local_sources)

    def progress(self) -> bool:
        moved = self.pump()
        for source in list(self._rest) if self._rest else ():
            moved = self._go_on(source) or moved
        return moved

    def receive(self, target: int) -> Item | None:
        if self.closed:
            return None
        aligner = self.aligners[target]
        port = self.port
        while True:
            if aligner.ready:
                kind, value = aligner.ready.popleft()
                if kind == END:
                    self._ended.add(target)
                return Item(kind, -1, target, value)
            delivery = port.receive(target, aligner.blocked or ())
            if delivery is None:
                return None
            if delivery.kind == DATA:
                aligner.active(delivery.source)
                return Item(DATA, delivery.source, target, delivery.value)
            aligner.mark(delivery.source, delivery.kind, delivery.value)

    @property
    def is_complete(self) -> bool:
        return (
            len(self._finished) == len(self.local_sources)
            and not self._waiting
            and not self._rest
            and len(self._ended) == len(self.local_targets)
        )

    def reset(self, step: Step) -> None:
        if not self.is_complete and not self.closed:
            raise OperatorError(
                f"{self.label} was reset before it was complete",
                why="a source has not finished, or a target has not taken its END",
                remedy="drive the operator until is_complete, or close it",
            )
        self.close()
        self._begin(step)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.port.close()
            self._waiting.clear()
            self._rest.clear()
            self._backlog.clear()
            if self._room is not None:
                self._room.release()

    @property
    def counters(self) -> EdgeCounters:
        return self.port.counters

    @property
    def silent_workers(self) -> list[int]:
        """Other workers whose END has not come here, for messages."""
        lanes = {lane for aligner in self.aligners.values() for lane in aligner.open}
        return self._others(lanes)

    def _others(self, lanes: Iterable[int]) -> list[int]:
        me = self.context.network.worker_id
        return [worker for worker in workers_of(self.senders[lane] for lane in lanes) if worker != me]

    def _misuse(self, source: int) -> OperatorError:
        if self.closed:
            why = "it is closed"
        elif source in self._finished:
            why = f"source {source} has finished"
        else:
            why = f"source {source} is not on this worker (here are {self.local_sources})"
        return OperatorError(
            f"{self.label} cannot take anything from source {source}",
            why=why,
            remedy="send only from local sources that have not finished",
        )


class GatedOperator(LaneOperator):
    """Sending lanes are workers: all local sources share one, and a mark leaves once all of them have brought it.

    Marks behind one that is not aligned yet wait here, because they are never refused; batches are refused.
    """

    def begin(self) -> None:
        super().begin()
        self.gate = Aligner(self.local_sources, self.label)
        self._behind: dict[int, deque[tuple[HeaderKind, Any]]] = {}

    def lane_of(self, source: int) -> int:
        return self.my_senders[0]

    def leaving(self, kind: HeaderKind, value: Any) -> None:
        """A mark, END included, leaves this worker: send what is held that must be before it, then the mark."""
        self.push_all(self.my_senders[0], kind, value)

    def send(self, source: int, batch: Batch) -> bool:
        if source in self.gate.blocked and not self.closed:
            return False
        taken = super().send(source, batch)
        if taken:
            self.gate.active(source)
        return taken

    def marked(self, source: int, kind: HeaderKind, value: Any) -> None:
        if source in self.gate.blocked:
            self._behind.setdefault(source, deque()).append((kind, value))
            return
        self.gate.mark(source, kind, value)
        self._leave()

    def finished(self, source: int) -> None:
        self.marked(source, END, None)

    def _leave(self) -> None:
        gate = self.gate
        while gate.ready:
            self.leaving(*gate.ready.popleft())
            if not gate.ready and self._behind:
                self._catch_up()

    def _catch_up(self) -> None:
        """Take the marks that waited behind the one that has left."""
        for source in list(self._behind):
            queue = self._behind[source]
            while queue and source not in self.gate.blocked:
                self.gate.mark(source, *queue.popleft())
            if not queue:
                del self._behind[source]


def workers_of(tasks: Iterable[int]) -> list[int]:
    """The workers of some tasks, each once, ascending."""
    return sorted(set(tasks))
