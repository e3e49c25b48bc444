"""Operators that pass batches on: direct, partition, keyed_partition, gather, broadcast, barrier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_records
from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import OperatorError
from twister2_net.base import DATA, END, LaneOperator, workers_of
from twister2_net.inorder import InOrder
from twister2_net.problems import no_pair, wrong_option
from twister2_net.sampling import Sampler
from twister2_net.selectors import PAIR_KEY, Custom, Hash, Range, RoundRobin, Selector, check_partitioner
from twister2_net.split import Collected, form_of, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class TaskOperator(LaneOperator):
    """Lanes are tasks; marks follow the data of their source at once."""

    coalesces = True

    def lanes(self) -> tuple[Sequence[int], Sequence[int]]:
        return self.context.sources, self.context.targets

    def marked(self, source: int, kind: HeaderKind, value: Any) -> None:
        self.push_all(source, kind, value)

    def finished(self, source: int) -> None:
        self.push_all(source, END)


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

    def prepare(self) -> None:
        if len(self.context.targets) != 1:
            raise OperatorError(
                f"{self.label} has {len(self.context.targets)} targets",
                why="gather brings everything to one task",
                remedy="give the target a parallelism of 1, or use partition",
            )

    def take(self, source: int, batch: Batch) -> None:
        self.push(source, 0, DATA, batch)


class Partition(TaskOperator):
    """Every record to the target that a selector chooses."""

    def prepare(self) -> None:
        self.partitioner = self.options["partitioner"]
        self.key: Callable[[Any], Any] | None = self.options.get("key")
        self.columns: Sequence[str] = self.options.get("columns") or ()
        check_partitioner(self.partitioner, self.label)
        self.bounds = self.options.get("bounds")
        if self.bounds is not None and len(self.bounds) != len(self.context.targets) - 1:
            raise wrong_option(
                self.label,
                "bounds",
                f"{len(self.bounds)} bounds do not cut {len(self.context.targets)} ranges",
                f"give {len(self.context.targets) - 1} bounds, ascending",
            )
        self.ordered = bool(self.options.get("ordered"))
        self.samples = self.partitioner == "range" and self.bounds is None and len(self.context.targets) > 1
        if self.samples and self.stream:
            raise wrong_option(
                self.label,
                "bounds",
                "a stream has no end before which a sample of all its records could be drawn",
                f"give {len(self.context.targets) - 1} bounds, or another partitioner",
            )
        self.limit = 1 if self.stream else self.config.batch_records

    def begin(self) -> None:
        super().begin()
        n = len(self.receivers)
        self._sampler = Sampler(self) if self.samples else None
        self.selectors = {source: self.selector(source, n) for source in self.local_sources}
        self.collected: dict[tuple[int, int], Collected] = {}
        self.held = 0
        self._in_order: dict[int, InOrder] = {}
        if self.ordered:
            memory = self.context.memory
            self._in_order = {
                target: InOrder(memory.reserve(f"{self.label}: held for task {target}"))
                for target in self.local_targets
            }

    def selector(self, source: int, n: int) -> Selector:
        """The selector of one local source."""
        if self.partitioner == "hash":
            return Hash(n, self.label, source, self.key, self.columns)
        if self.partitioner == "round_robin":
            return RoundRobin(n, self.label, source)
        if self.partitioner == "range":
            selector = Range(n, self.label, source, self.key, self.bounds or (), self.columns)
            selector.descending = bool(self.options["descending"])
            return selector
        return Custom(n, self.label, source, self.partitioner)

    def take(self, source: int, batch: Batch) -> None:
        n = len(self.receivers)
        if n_records(batch) == 0:
            return
        if self._sampler is not None and not self._sampler.done:
            self._sampler.take(source, batch)
            return
        if n == 1 and not self.checks:
            self.collect(source, 0, batch, form_of(batch))
            return
        targets = self.selectors[source].assign(batch)
        form = form_of(batch)
        for target, part in split(batch, targets, n):
            self.collect(source, target, part, form)
        if self.held > max(4 * self.limit, self.limit * n // 4):
            for lane in self.local_sources:
                self.flush(lane)

    @property
    def checks(self) -> bool:
        """Whether records must be looked at even when there is only one target."""
        return not isinstance(self.partitioner, str)

    def collect(self, source: int, target: int, part: Batch, form: Any) -> None:
        """Hold a part until there is a batch's worth, or send it."""
        channel = (source, target)
        collected = self.collected.get(channel)
        if collected is None:
            collected = self.collected[channel] = Collected()
        elif not collected.fits(form):
            self._send(channel, collected)
        collected.add(part, form)
        self.held += n_records(part)
        if collected.count >= self.limit:
            self._send(channel, collected)

    def _send(self, channel: tuple[int, int], collected: Collected) -> None:
        if collected.parts:
            self.held -= collected.count
            self.push(*channel, DATA, collected.take())

    def flush(self, source: int) -> None:
        """Send everything a source has waiting."""
        for channel, collected in self.collected.items():
            if channel[0] == source:
                self._send(channel, collected)

    def marked(self, source: int, kind: HeaderKind, value: Any) -> None:
        if self._sampler is not None and not self._sampler.done:
            self._sampler.mark(source, kind, value)
            return
        self.flush(source)
        super().marked(source, kind, value)

    def finished(self, source: int) -> None:
        if self._sampler is not None and not self._sampler.done:
            self._sampler.mark(source, END, None)
            return
        self.flush(source)
        super().finished(source)

    def progress(self) -> bool:
        moved = super().progress()
        if self._sampler is not None and not self._sampler.done:
            moved = self._sampler.progress() or moved
        if self._sampler is not None and self._sampler.done:
            moved = self._sampler.replay() or moved
        return moved

    def bounded(self, bounds: Sequence[Any]) -> None:
        """The bounds are known now."""
        for selector in self.selectors.values():
            if isinstance(selector, Range):
                selector.bounds = bounds

    def receive(self, target: int) -> Item | None:
        line = self._in_order.get(target)
        if line is None or self.closed:
            return super().receive(target)
        while not line.ready:
            item = super().receive(target)
            if item is None:
                return None
            line.take(item)
        return line.next()

    @property
    def is_complete(self) -> bool:
        if any(line.ready for line in self._in_order.values()):
            return False
        return (self._sampler is None or self._sampler.over) and super().is_complete

    def close(self) -> None:
        if not self.closed:
            if self._sampler is not None:
                self._sampler.close()
            for line in self._in_order.values():
                line.close()
        super().close()


class KeyedPartition(Partition):
    """(key, value) pairs to the target of their key; Arrow batches by key columns."""

    def prepare(self) -> None:
        super().prepare()
        if self.key is None:
            self.key = PAIR_KEY

    @property
    def checks(self) -> bool:
        return True

    def take(self, source: int, batch: Batch) -> None:
        if not is_arrow(batch) and not is_array(batch):
            for record in batch:
                if type(record) is not tuple and not _is_pair(record):
                    raise no_pair(self.label, source, record)
        super().take(source, batch)


def _is_pair(record: Any) -> bool:
    return isinstance(record, (tuple, list)) and len(record) == 2


class Broadcast(LaneOperator):
    """Every batch to every target; it crosses to each worker once."""

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
