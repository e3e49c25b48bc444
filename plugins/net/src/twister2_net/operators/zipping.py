"""zip: the records of two inputs side by side, the first with the first, the second with the second..."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_arrow, n_bytes, n_records, records
from twister2.spec.errors import OperatorError
from twister2_net.exchange.aggregating import AggregatingOperator
from twister2_net.exchange.lanes import DATA
from twister2_net.exchange.tasks import TaskOperator
from twister2_net.spilling.queues import HeldBatches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twister2.spec.channel import HeaderKind

_SIDES = ("left", "right")


class Zip(TaskOperator, AggregatingOperator):
    """Pairs ``(left, right)``: task i of both inputs to target i.

    What one side is ahead of the other is held, on disk when memory gets short.
    """

    def prepare(self) -> None:
        counts = self.context.inputs
        n = len(self.context.targets)
        if len(counts) != 2:
            raise OperatorError(
                f"{self.label} has {len(counts) or 1} inputs",
                why="a zip has two: left and right",
                remedy="connect two vertices to the edge, or say how many sources each input has",
                where=self.label,
            )
        if counts[0] != counts[1] or counts[0] != n:
            raise OperatorError(
                f"{self.label} joins {counts[0]} tasks and {counts[1]} tasks to {n}",
                why="it puts task i of the left beside task i of the right, at target i",
                remedy="give both inputs and the target the same parallelism",
                where=self.label,
            )
        self.n = n

    def inputs_of(self, lane: int) -> Iterable[int]:
        return lane, self.n + lane

    def outputs_of(self, lane: int) -> Iterable[int]:
        return (lane % self.n,)

    def begin(self) -> None:
        super().begin()
        memory = self.context.memory
        self._lines = {
            target: [_Line(HeldBatches(memory, f"{self.label}: {side} of task {target}")) for side in _SIDES]
            for target in self.local_targets
        }
        self._out: dict[int, HeldBatches[Batch]] = {
            target: HeldBatches(memory, f"{self.label}: results of task {target}") for target in self.local_targets
        }

    def take(self, source: int, batch: Batch) -> None:
        if n_records(batch):
            self.push(source, source % self.n, DATA, batch)

    def gathered(self, lane: int, source: int, value: Any) -> None:
        self._lines[lane][source // self.n].put(value)
        out = self._out[lane]
        count = 0
        for batch in self._pairs(*self._lines[lane]):
            out.put(batch, n_bytes(batch))
            count += 1
        if count:
            self._give(lane, (out.get() for _ in range(count)))

    def _pairs(self, left: _Line, right: _Line) -> Iterator[list[Any]]:
        """What both sides have."""
        while count := min(left.ready(), right.ready(), self.config.batch_records):
            yield list(zip(left.take(count), right.take(count), strict=True))

    def emit(self, lane: int, kind: HeaderKind) -> Iterator[Batch]:
        left, right = self._lines[lane]
        if left.count != right.count:
            raise OperatorError(
                f"{self.label} has {left.count} records on the left and {right.count} on the right of task {lane}",
                why="it puts records side by side, so both sides need equally many in each task",
                remedy="zip what has the same partitions, e.g. what was mapped from one set; else number both and join",
                where=f"{self.label}, task {lane}",
            )
        left.count = right.count = 0
        return iter(())

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def state(self, lane: int) -> Any:
        lines = self._lines[lane]
        if not any(line.count for line in lines):
            return None
        return [(line.count, list(line.rest())) for line in lines]

    def take_back(self, lane: int, state: Any) -> None:
        for line, (count, batches) in zip(self._lines[lane], state, strict=True):
            for batch in batches:
                line.put(batch)
            line.count = count

    def close(self) -> None:
        if not self.closed:
            for lines in self._lines.values():
                for line in lines:
                    line.held.close()
            for out in self._out.values():
                out.close()
        super().close()


class _Line:
    """What one side of a task has brought and nothing was put beside. :ivar count: records since the last mark."""

    def __init__(self, held: HeldBatches[Batch]) -> None:
        self.held = held
        self.count = 0
        self._first: Batch | None = None
        self._at = 0

    def put(self, batch: Batch) -> None:
        """Hold a batch."""
        self.count += n_records(batch)
        self.held.put(batch, n_bytes(batch))

    def ready(self) -> int:
        """Records that can be taken at once."""
        if self._first is None and self.held:
            self._first, self._at = self.held.get(), 0
        return 0 if self._first is None else n_records(self._first) - self._at

    def take(self, count: int) -> Iterable[Any]:
        """So many records of those that are ready."""
        some = _cut(self._first, self._at, count)
        self._at += count
        if self._at == n_records(self._first):
            self._first = None
        return records(some)

    def rest(self) -> Iterator[Batch]:
        """All batches; they stay."""
        if self._first is not None:
            yield _cut(self._first, self._at, n_records(self._first) - self._at)
        yield from self.held.peek()


def _cut(batch: Batch, start: int, count: int) -> Batch:
    return batch.slice(start, count) if is_arrow(batch) else batch[start : start + count]
