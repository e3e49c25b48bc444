"""Operators that pass batches on from task to task: direct, pipe, union, gather, broadcast, allgather, barrier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_records
from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import OperatorError
from twister2.spec.tracebacks import short
from twister2_net.exchange.lanes import DATA, END, LaneOperator, workers_of
from twister2_net.exchange.tasks import TaskOperator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Direct(TaskOperator):
    """Source i to target i, batch by batch, unchanged."""

    def prepare(self) -> None:
        if len(self.context.sources) != len(self.context.targets):
            raise OperatorError(
                f"{self.label} joins {len(self.context.sources)} tasks to {len(self.context.targets)}",
                why="direct goes from source i to target i",
                remedy="give both vertices the same parallelism, or use partition",
            )

    def inputs_of(self, lane: int) -> Iterable[int]:
        return (lane,)

    def outputs_of(self, lane: int) -> Iterable[int]:
        return (lane,)

    def take(self, source: int, batch: Batch) -> None:
        self.push(source, source, DATA, batch)


class Gather(TaskOperator):
    """Everything to the only target, batch by batch; an item's ``source`` tells where it comes from."""

    def take(self, source: int, batch: Batch) -> None:
        self.push(source, 0, DATA, batch)


class Union(TaskOperator):
    """All inputs as one: task k of each input to target k (modulo the number of targets), batch by batch."""

    def begin(self) -> None:
        super().begin()
        n = len(self.context.targets)
        counts = self.context.inputs or (len(self.context.sources),)
        self._to = [index % n for count in counts for index in range(count)]

    def inputs_of(self, lane: int) -> Iterable[int]:
        n = len(self.context.targets)
        counts = self.context.inputs or (len(self.context.sources),)
        places = [index % n for count in counts for index in range(count)]
        return [source for source, target in enumerate(places) if target == lane]

    def outputs_of(self, lane: int) -> Iterable[int]:
        return (self._to[lane],)

    def take(self, source: int, batch: Batch) -> None:
        self.push(source, self._to[source], DATA, batch)


class AllToAll(TaskOperator):
    """Batches of one part per target: part i to target i, as a batch of its own."""

    coalesces = False
    cuts = False

    def take(self, source: int, batch: Batch) -> None:
        n = len(self.context.targets)
        if n_records(batch) != n:
            raise OperatorError(
                f"{self.label} was given a batch of {n_records(batch)} parts",
                why=f"it takes batches of one part for each of its {n} targets",
                remedy=f"send a list of {n} batches, or an array whose first axis is {n} long",
                where=f"{self.label}, task {source}",
                details={"record": short(batch)},
            )
        for target in range(n):
            part = batch[target : target + 1] if is_array(batch) and batch.ndim == 1 else batch[target]
            if not (isinstance(part, list) or is_array(part) or is_arrow(part)):
                part = [part]
            if n_records(part):
                self.push(source, target, DATA, part)


class Broadcast(LaneOperator):
    """Every batch of every source to every target; it crosses to each worker once."""

    def lanes(self) -> tuple[Sequence[int], Sequence[int]]:
        return self.context.sources, workers_of(self.context.targets)

    def begin(self) -> None:
        super().begin()
        self._at = dict.fromkeys(self.local_targets, 0)
        self._log: list[Item] = []
        self._cut = 0

    def take(self, source: int, batch: Batch) -> None:
        self.push_all(source, DATA, batch)

    def marked(self, source: int, kind: HeaderKind, value: Any) -> None:
        self.push_all(source, kind, value)

    def finished(self, source: int) -> None:
        self.push_all(source, END)

    def receive(self, target: int) -> Item | None:
        if self.closed or target in self._ended:
            return None
        position = self._at[target] - self._cut
        if position == len(self._log) and not self._next():
            return None
        item = self._log[position]
        self._at[target] += 1
        if item.kind == END:
            self._ended.add(target)
        slowest = min(self._at.values())
        if slowest > self._cut:
            del self._log[: slowest - self._cut]
            self._cut = slowest
        return Item(item.kind, item.source, target, item.value)

    def _next(self) -> bool:
        """Take one more item from the port, unless the slowest target is too far behind."""
        if len(self._log) >= 64 or not self.my_receivers:
            return False
        lane = self.my_receivers[0]
        aligner = self.aligners[lane]
        while True:
            if aligner.ready:
                kind, value = aligner.ready.popleft()
                self._log.append(Item(kind, -1, -1, value))
                return True
            delivery = self.port.receive(lane, aligner.blocked or ())
            if delivery is None:
                return False
            if delivery.kind == DATA:
                aligner.active(delivery.source)
                self._log.append(Item(DATA, delivery.source, -1, delivery.value))
                return True
            aligner.mark(delivery.source, delivery.kind, delivery.value)


class Barrier(TaskOperator):
    """No records: every target gets its END once all sources have finished."""

    def take(self, source: int, batch: Batch) -> None:
        raise OperatorError(
            f"{self.label} takes no records",
            why=f"source {source} sent {n_records(batch)}",
            remedy="use another operator on this edge",
        )
