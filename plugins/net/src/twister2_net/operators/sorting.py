"""sort: all records in order, within targets and from each target to the next.

Ranges are chosen from a sample of all keys, and each target sorts what comes to its range; larger than memory, it
writes sorted runs and merges them. Arrays and Arrow batches are sorted by their columns and stay what they are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from random import Random
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_bytes, n_records, records
from twister2.spec.errors import Twister2Error
from twister2_net.exchange.aggregating import AggregatingOperator
from twister2_net.operators.keyed_gathering import batches_of
from twister2_net.operators.keyed_holding import form_name
from twister2_net.operators.partitioning import Partition
from twister2_net.problems import mixed_forms
from twister2_net.selectors.base import Selector
from twister2_net.selectors.sampling import Sample, Sampler, choose_bounds, thin
from twister2_net.spilling.queues import pieces
from twister2_net.spilling.record_order import RecordOrder
from twister2_net.spilling.row_columns import RowColumns
from twister2_net.spilling.sorted_columns import SortedColumns
from twister2_net.spilling.sorted_rows import RowForm, Tagged, rows_at
from twister2_net.spilling.tables import BATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2.spec.channel import HeaderKind

_SMALL = 1 << 14
_PLAIN = frozenset({int, str, bytes, bool})


class Sort(Partition, AggregatingOperator):
    """Records in order of their keys."""

    def prepare(self) -> None:
        self.order = RecordOrder(
            self.options.get("key"), self.options["descending"], self.options.get("comparator"), self.label
        )
        self.row_columns = RowColumns(self.order)
        self.options.update(partitioner="range", key=None, descending=False, ordered=False)
        super().prepare()
        if self.bounds is not None:
            self.bounds = self._ascending(list(self.bounds))

    def _ascending(self, bounds: list[Any]) -> list[Any]:
        try:
            return sorted(bounds, key=self.order.rank)
        except Exception as error:
            raise self.order.blamed(error) from error

    # -- sending side ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        super().begin()
        self._held: dict[int, SortedColumns] = {}
        self._forms: dict[int, tuple[str, RowForm]] = {}
        self._emitting: list[SortedColumns] = []

    def sampler(self) -> Sampler:
        return _Sampler(self)

    def selector(self, source: int, n: int) -> Selector:
        return _Ranges(n, self.label, source, self.order, self.bounds or ())

    def take(self, source: int, batch: Batch) -> None:
        if not isinstance(batch, list):
            if not self.stays(batch):
                batch = list(records(batch))
            elif is_arrow(batch):
                self.row_columns.check(batch)
        super().take(source, batch)

    def stays(self, batch: Batch) -> bool:
        """Whether a batch is sorted by its columns; else its records are taken one by one."""
        columns = is_arrow(batch) or is_array(batch)
        return columns and self.order.by_columns and self.row_columns.fits(batch)

    def bounded(self, bounds: Sequence[Any]) -> None:
        for one in self.selectors.values():
            assert isinstance(one, _Ranges)
            one.bounds = bounds

    # -- receiving side --------------------------------------------------------------------------------------------

    def gathered(self, lane: int, source: int, value: Any) -> None:
        held = self._held.get(lane)
        name = form_name(value) if is_arrow(value) or is_array(value) else "lists"
        if held is None:
            form = RowForm(self.order, None if isinstance(value, list) else self.row_columns)
            self._forms[lane] = name, form
            held = self._held[lane] = SortedColumns(self.context.memory, f"{self.label}: held for task {lane}", [form])
        if self._forms[lane][0] != name:
            raise mixed_forms(self.label, lane, name, self._forms[lane][0])
        for piece in pieces(self.context.memory, value) if n_bytes(value) > _SMALL else (value,):
            held.add(0, Tagged(piece, source))

    def emit(self, lane: int, kind: HeaderKind) -> Iterator[Batch]:
        held = self._held.pop(lane, None)
        if held is None:
            return iter(())
        self._emitting.append(held)
        return self._walk(held, self._forms[lane][1])

    def _walk(self, held: SortedColumns, form: RowForm) -> Iterator[Batch]:
        for block in self._blocks(held, form):
            yield from batches_of(block, self._rows_of(block))
        held.close()
        self._emitting.remove(held)

    def _blocks(self, held: SortedColumns, form: RowForm) -> Iterator[Any]:
        try:
            windows = held.windows()
            if windows is None:
                yield from form.in_order(held.here(0))
                return
            for window in windows:
                some = (part for _, part in window.parts)
                if window.below:
                    yield form.whole(list(some)).rows
                else:
                    yield from (part.rows for part in some)
        except Twister2Error:
            raise
        except Exception as error:
            raise self.order.blamed(error) from error

    def _rows_of(self, block: Any) -> int:
        """Records of a batch that is handed out."""
        most = self.config.batch_records
        if isinstance(block, list):
            most = min(most, BATCH_BYTES * max(1, len(block)) // max(1, n_bytes(block)))
        return max(1, most)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def state(self, lane: int) -> Any:
        held = self._held.get(lane)
        return None if held is None else held.state()

    def take_back(self, lane: int, state: Any) -> None:
        for _, part in state:
            if isinstance(part.sources, int):
                self.gathered(lane, part.sources, part.rows)
                continue
            # a sorted run: its records go back to their sources, which keeps the order of each
            for source in sorted(set(part.sources.tolist())):
                mine = (part.sources == source).nonzero()[0]
                rows = part.rows
                some = [rows[at] for at in mine] if isinstance(rows, list) else rows_at(rows, mine)
                self.gathered(lane, source, some)

    def close(self) -> None:
        if not self.closed:
            for held in [*self._held.values(), *self._emitting]:
                held.close()
            self._held.clear()
            self._emitting.clear()
        super().close()


class _Ranges(Selector):
    """By bounds of keys in the order of a sort."""

    def __init__(self, n: int, label: str, task: int, order: RecordOrder, bounds: Sequence[Any]) -> None:
        super().__init__(n, label, task)
        self._order = order
        self._columns = RowColumns(order)
        self.bounds = bounds

    @property
    def bounds(self) -> Sequence[Any]:
        """Ascending in the order of the sort; fewer than one for each target when there are no records."""
        return self._bounds

    @bounds.setter
    def bounds(self, bounds: Sequence[Any]) -> None:
        self._bounds = bounds
        self._ranks = [self._order.rank(bound) for bound in bounds]
        self._kinds = set(map(type, bounds))
        self._rising = list(bounds)[::-1]

    def assign(self, batch: Batch) -> Sequence[int]:
        if not isinstance(batch, list):
            found = self._columns.targets(batch, self._bounds)
            if found is not None:
                return found  # type: ignore[no-any-return]
            keys = self._columns.raw(batch, range(n_records(batch)))
        else:
            keys = self._order.raw(batch)
        try:
            return self._each(keys)
        except Exception as error:
            raise self._order.blamed(error) from error

    def _each(self, keys: list[Any]) -> list[int]:
        (part, *others) = self._order.parts
        if not others and self._order.is_natural and (set(map(type, keys)) | self._kinds) <= _PLAIN:
            if part.descending:
                count, rising = len(self._rising), self._rising
                return [count - bisect_left(rising, key) for key in keys]
            bounds = self._bounds
            return [bisect_right(bounds, key) for key in keys]
        rank, ranks = self._order.rank, self._ranks
        return [bisect_right(ranks, rank(key)) for key in keys]


class _Sampler(Sampler):
    """Samples of the keys of a sort: some rows of each batch, chosen by chance, the same in every run."""

    _owner: Sort

    def _sample(self) -> Sample:
        owner = self._owner
        limit = owner.config.sample_per_target * owner.n_targets
        total = self._total
        chance = Random(self._rank)
        keys: list[Any] = []
        for batch in self.batches():
            count = n_records(batch)
            share = max(1, 2 * limit * count // max(1, total))
            rows = range(count) if share >= count else sorted(chance.sample(range(count), share))
            if isinstance(batch, list):
                keys += owner.order.raw([batch[row] for row in rows])
            else:
                keys += owner.row_columns.raw(batch, rows)
        return total, thin(self._sorted(keys), 4 * limit)

    def _sorted(self, keys: list[Any]) -> list[Any]:
        try:
            return sorted(keys, key=self._owner.order.rank)
        except Exception as error:
            raise self._owner.order.blamed(error) from error

    def chosen(self, samples: Sequence[Sample]) -> list[Any]:
        try:
            return choose_bounds(samples, self._owner.n_targets, self._owner.order.rank)
        except Exception as error:
            raise self._owner.order.blamed(error) from error
