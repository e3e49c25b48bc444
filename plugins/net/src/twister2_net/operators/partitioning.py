"""partition and keyed_partition: every record to the target that a selector chooses, directly or along a chain."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_bytes, n_records
from twister2_net.combining.pairs import is_pair
from twister2_net.exchange.lanes import DATA, END, LaneOperator
from twister2_net.exchange.parts import Collected, form_of, split
from twister2_net.exchange.placing import inputs_in_place
from twister2_net.exchange.tasks import TaskOperator
from twister2_net.exchange.ways import HERE, Way, line
from twister2_net.operators.relaying import Parcel, Relay
from twister2_net.problems import no_pair, not_one_each, wrong_option
from twister2_net.selectors.key_columns import PAIR_KEY
from twister2_net.selectors.names import KEYED_NAMES, NAMES, Given, check_partitioner, check_read, selector
from twister2_net.selectors.ranges import Range
from twister2_net.selectors.record_keys import record_key
from twister2_net.selectors.sampling import Sampler
from twister2_net.spilling.source_order import InOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.channel import HeaderKind, Item
    from twister2_net.exchange.hops import Flow
    from twister2_net.selectors.base import Key, Selector


_BATCH_BYTES = 4 << 20
"""Bytes that are collected for one target, about; less where the memory budget is small."""
_LEAST_BYTES = 1 << 16
_MEASURE_EVERY = 15


class Partitioning(LaneOperator):
    """Choosing targets and collecting what goes to each; how it goes there is said by the class it is mixed with."""

    selectors_known: Sequence[str] = NAMES
    selecting: Sequence[str] = ("key", "bounds", "descending")
    """Options at which the selector alone looks."""

    @abstractmethod
    def deliver(self, source: int, target: int, batch: Batch) -> None:
        """Send a batch from a local source to a target."""

    def prepare(self) -> None:
        self.n_targets = len(self.context.targets)
        self.partitioner = self.options["partitioner"]
        key = record_key(self.options.get("key"), self.label)
        self.columns: Sequence[str] = key.columns
        self.key: Key | None = key.function
        check_partitioner(self.partitioner, self.label, self.selectors_known)
        check_read(self.partitioner, {name: self.options.get(name) for name in self.selecting}, self.label)
        self.bounds = self.options.get("bounds")
        if self.bounds is not None and len(self.bounds) != len(self.context.targets) - 1:
            raise wrong_option(
                self.label,
                "bounds",
                f"{len(self.bounds)} bounds do not cut {len(self.context.targets)} ranges",
                f"give {len(self.context.targets) - 1} bounds, ascending",
            )
        self.in_place = inputs_in_place(self.options, self.context, self.label)
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
        use = self.context.memory.use()
        share = use.budget // (64 * self.n_targets * max(1, len(self.local_sources))) if use.limit else _BATCH_BYTES
        self._batch_bytes = max(_LEAST_BYTES, min(_BATCH_BYTES, share))
        self._until_measured = 0

    def all_to(self, source: int) -> Sequence[int] | None:
        """The targets to which everything of a local source goes; None when that is a question of each record."""
        side = self.context.input_of(source)
        return (source - sum(self.context.inputs[:side]),) if side in self.in_place else None

    def begin(self) -> None:
        super().begin()
        n = self.n_targets
        self._all_to = {source: self.all_to(source) for source in self.local_sources}
        self._sampler = self.sampler() if self.samples else None
        self.selectors = {source: self.selector(source, n) for source in self.local_sources}
        self.collected: dict[tuple[int, int], Collected] = {}
        self.held = 0
        self._in_order: dict[int, InOrder] = {}
        if self.ordered:
            memory = self.context.memory
            self._in_order = {
                target: InOrder(memory, f"{self.label}: held for task {target}") for target in self.local_targets
            }

    def sampler(self) -> Sampler:
        """What holds all batches until the bounds of ranges are known."""
        return Sampler(self)

    def selector(self, source: int, n: int) -> Selector:
        """The selector of one local source."""
        given = Given(self.key, self.columns, self.bounds or (), bool(self.options.get("descending")))
        return selector(self.partitioner, n, self.label, source, given)

    def take(self, source: int, batch: Batch) -> None:
        self.place(source, batch)

    def place(self, source: int, batch: Batch) -> None:
        """Bring a batch on its way, or hold it until bounds are known: then it comes here once more."""
        n = self.n_targets
        if n_records(batch) == 0:
            return
        targets = self._all_to[source]
        if targets is not None:
            for target in targets:
                self.deliver(source, target, batch)
            return
        if not self.stream:
            self._measure(batch)
        if self._sampler is not None and not self._sampler.done:
            self._sampler.take(source, batch)
            return
        if n == 1 and not self.checks:
            self.collect(source, 0, batch, form_of(batch))
            return
        targets = self.selectors[source].assign(batch)
        if len(targets) != n_records(batch):
            raise not_one_each(self.label, source, self.partitioner, len(targets), n_records(batch))
        form = form_of(batch)
        for target, part in split(batch, targets, n):
            self.collect(source, target, part, form)
        if self.held > max(4 * self.limit, self.limit * n // 4):
            for local in self.local_sources:
                self.flush(local)

    def _measure(self, batch: Batch) -> None:
        """Now and then look at how large records are: what is collected for a target is limited in bytes too."""
        self._until_measured -= 1
        if self._until_measured < 0:
            self._until_measured = _MEASURE_EVERY
            fitting = self._batch_bytes * n_records(batch) // max(1, n_bytes(batch))
            self.limit = max(1, min(self.config.batch_records, fitting))

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
            self.deliver(*channel, collected.take())

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
        for one in self.selectors.values():
            if isinstance(one, Range):
                one.bounds = bounds

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


class Keyed(Partitioning):
    """Records are (key, value) pairs, Arrow batches with key columns, or anything with the option ``key``."""

    selectors_known = KEYED_NAMES
    selecting: Sequence[str] = ("bounds", "descending")
    """That records have a key, of whatever form, is this operator's own demand."""

    def prepare(self) -> None:
        super().prepare()
        if self.key is None:
            self.key = PAIR_KEY

    @property
    def checks(self) -> bool:
        return True

    def take(self, source: int, batch: Batch) -> None:
        pairs = self.key is PAIR_KEY and not is_arrow(batch) and not is_array(batch)
        if pairs and list(map(type, batch)).count(tuple) != len(batch):
            for record in batch:
                if type(record) is not tuple and not is_pair(record):
                    raise no_pair(self.label, source, record)
        super().take(source, batch)


class Partition(Partitioning, TaskOperator):
    """Straight from each source to each target."""

    def deliver(self, source: int, target: int, batch: Batch) -> None:
        self.push(source, target, DATA, batch)


class KeyedPartition(Keyed, Partition):
    """Pairs straight to the target of their key."""


class ChainPartition(Partitioning, Relay):
    """Along the line of workers: each sends to its two neighbours only."""

    def begin(self) -> None:
        super().begin()
        rank = {worker: index for index, worker in enumerate(self.senders)}
        self._rank_of = [rank[worker] for worker in self.context.targets]

    def layout(self, me: int, sources: list[int], targets: list[int]) -> list[Way]:
        return line(me, sources, targets)

    def deliver(self, source: int, target: int, batch: Batch) -> None:
        self.came(~source, Parcel(source, target, batch))

    def data(self, flow: Flow, origin: int, value: Parcel) -> None:
        me, to = self.my_senders[0], self._rank_of[value.target]
        (output,) = flow.outputs
        if output == HERE if to == me else (output == me + 1 if to > me else output == me - 1):
            self.out(output, value)

    def here(self, value: Parcel) -> None:
        self.give(value.target, value.source, value.batch)


class ChainKeyedPartition(Keyed, ChainPartition):
    """Pairs along the line to the target of their key."""
