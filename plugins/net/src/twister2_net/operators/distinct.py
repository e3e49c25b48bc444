"""distinct: of equal records one, the first of the first source.

Each source sends a record once, as far as memory reaches; targets keep one of each, on disk when memory gets short.
Arrays and Arrow batches stay columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_records, records
from twister2.spec.errors import MemoryBudgetError, Twister2Error
from twister2_net.exchange.aggregating import AggregatingOperator
from twister2_net.operators.keyed_gathering import batches_of
from twister2_net.operators.keyed_holding import form_name
from twister2_net.operators.partitioning import Partition
from twister2_net.problems import mixed_forms, no_hash, user_error
from twister2_net.selectors.row_hash import RowHash
from twister2_net.spilling.key_order import Ranking, canonical
from twister2_net.spilling.queues import pieces
from twister2_net.spilling.record_order import RecordOrder
from twister2_net.spilling.row_columns import RowColumns
from twister2_net.spilling.sorted_columns import SortedColumns
from twister2_net.spilling.sorted_rows import RowForm, Tagged, rows_at
from twister2_net.spilling.table_size import SizedTable
from twister2_net.spilling.tables import BATCH_BYTES, FoldTable, sliced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twister2.spec.channel import HeaderKind
    from twister2_net.selectors.base import Selector

_ROWS = 1 << 20
"""Rows of columns that are held before equal ones are looked for."""

_AT_ONCE = 2048
"""Records that are merged before the memory they take is looked at."""


class Distinct(Partition, AggregatingOperator):
    """One of the records that are equal, or whose keys are."""

    def prepare(self) -> None:
        key = self.options.get("key")
        self.order = RecordOrder(_whole_record if key is None else key, False, None, self.label)
        self.columns_order = RecordOrder(key, False, None, self.label)
        self.row_columns = RowColumns(self.columns_order)
        self.options.update(partitioner="hash", key=None)
        super().prepare()

    # -- sending side ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        super().begin()
        memory = self.context.memory
        self._seen: dict[int, dict[Any, Any]] = {source: {} for source in self.local_sources}
        self._short = False
        use = memory.use()
        budget = use.budget if use.limit else 0
        self._most = budget // (8 * max(1, len(self.local_sources)))
        self._rooms = {
            source: SizedTable(memory.reserve(f"{self.label}: seen by {source}", revoke=self._revoke), budget)
            for source in self.local_sources
        }
        self._tables: dict[int, FoldTable] = {}
        self._columns: dict[int, _Held] = {}
        self._emitting: list[Callable[[], None]] = []

    def selector(self, source: int, n: int) -> Selector:
        return _ByForm(n, self.label, source, self.order, self.columns_order)

    def _revoke(self, wanted: int) -> int:
        self._short = True
        return 0

    def take(self, source: int, batch: Batch) -> None:
        if not n_records(batch):
            return
        if is_arrow(batch) or is_array(batch):
            if self.columns_order.by_columns and self.row_columns.fits(batch):
                super().take(source, batch)
                return
            batch = list(records(batch))
        new = self._new(source, batch if isinstance(batch, list) else list(batch))
        if new:
            super().take(source, new)

    def _new(self, source: int, batch: list[Any]) -> list[Any]:
        """The records of a batch that this source has not sent yet, as far as it remembers."""
        if self._short:
            for local, seen in self._seen.items():
                seen.clear()
                self._rooms[local].cleared()
            self._short = False
        seen = self._seen[source]
        found = []
        for key, record in zip(self.order.raw(batch), batch, strict=True):
            try:
                known = canonical(key)
                if known not in seen:
                    seen[known] = None
                    found.append(record)
            except TypeError as error:
                raise no_hash(self.label, source, key, error) from error
            except Exception as error:
                raise user_error(error, "key", self.label, source, record) from error
        try:
            self._rooms[source].grown(seen)
        except MemoryBudgetError:
            self._short = True
        self._short = self._short or 0 < self._most < self._rooms[source].bytes
        return found

    def marked(self, source: int, kind: HeaderKind, value: Any) -> None:
        self._seen[source].clear()
        self._rooms[source].cleared()
        super().marked(source, kind, value)

    def finished(self, source: int) -> None:
        self._seen[source].clear()
        self._rooms[source].cleared()
        super().finished(source)

    # -- receiving side --------------------------------------------------------------------------------------------

    def gathered(self, lane: int, source: int, value: Any) -> None:
        columns = is_arrow(value) or is_array(value)
        other = lane in self._tables if columns else lane in self._columns
        if other:
            given, there = (form_name(value), "lists") if columns else ("lists", "columns")
            raise mixed_forms(self.label, lane, given, there)
        if columns:
            held = self._columns.get(lane)
            if held is None:
                held = self._columns[lane] = _Held(self, lane)
            held.add(source, value)
            return
        table = self._tables.get(lane)
        if table is None:
            table = self._tables[lane] = self._table(lane)
        self._merge(table, source, value, lane)

    def _table(self, lane: int) -> FoldTable:
        name = f"{self.label}: held for task {lane}"
        return FoldTable(self.context.memory, name, Ranking(None, self.label), _first)

    def _merge(self, table: FoldTable, source: int, batch: list[Any], lane: int) -> None:
        # the table may go to disk at grown(), and be another one then
        for start in range(0, len(batch), _AT_ONCE):
            some = batch[start : start + _AT_ONCE]
            here = table.table
            for key, record in zip(map(canonical, self.order.raw(some)), some, strict=True):
                held = here.get(key)
                if held is None or source < held[0]:
                    here[key] = source, record
            table.grown(len(some))

    def emit(self, lane: int, kind: HeaderKind) -> Iterator[Batch]:
        held = self._columns.pop(lane, None)
        if held is not None:
            self._emitting.append(held.close)
            return held.emit()
        table = self._tables.pop(lane, None)
        if table is None:
            return iter(())
        self._emitting.append(table.close)
        most = max(1, min(self.config.batch_records, BATCH_BYTES // table.record_bytes))
        return sliced((record for _, (_, record) in table.results()), most)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def state(self, lane: int) -> Any:
        held = self._columns.get(lane)
        if held is not None:
            return None, held.state()
        table = self._tables.get(lane)
        return None if table is None else (table.state(), None)

    def take_back(self, lane: int, state: Any) -> None:
        pairs, columns = state
        if pairs is not None:
            self._tables[lane] = self._table(lane)
            self._tables[lane].add_back(pairs)
        if columns is not None:
            self._columns[lane] = _Held(self, lane)
            self._columns[lane].add_back(columns)

    def close(self) -> None:
        if not self.closed:
            for room in self._rooms.values():
                room.release()
            for table in self._tables.values():
                table.close()
            for held in self._columns.values():
                held.close()
            for close in self._emitting:
                close()
        super().close()


class _Held:
    """Rows of columns at one target, each key once."""

    def __init__(self, owner: Distinct, task: int) -> None:
        self._owner = owner
        self._order = owner.columns_order
        self._row_columns = owner.row_columns
        self._form = RowForm(self._order, self._row_columns)
        self._columns = SortedColumns(owner.context.memory, f"{owner.label}: held for task {task}", [self._form])
        self._rows = 0
        self._kept = 0

    def add(self, source: int, batch: Batch) -> None:
        """Hold a batch."""
        for piece in pieces(self._owner.context.memory, batch):
            self._columns.add(0, Tagged(piece, source))
        self._rows += n_records(batch)
        if self._rows >= max(_ROWS, 2 * self._kept):
            self._compact()

    def _compact(self) -> None:
        """Leave one row of each key."""
        parts = self._columns.taken(0)
        if parts:
            first = self._first(parts)
            self._rows = self._kept = len(first)
            self._columns.add(0, first)

    def _first(self, parts: list[Tagged]) -> Tagged:
        """The first row of each key."""
        block = self._form.sorted(parts)
        parts.clear()
        rows = self._row_columns.new(block.rows).nonzero()[0]
        return Tagged(rows_at(block.rows, rows), block.sources[rows])

    def emit(self) -> Iterator[Batch]:
        """One row of each key. Afterwards nothing is held."""
        try:
            for rows in self._blocks():
                yield from batches_of(rows, self._owner.config.batch_records)
        except Twister2Error:
            raise
        except Exception as error:
            raise self._order.blamed(error) from error
        self._columns.close()

    def _blocks(self) -> Iterator[Any]:
        windows = self._columns.windows()
        if windows is None:
            parts = self._columns.here(0)
            if parts:
                yield self._first(parts).rows
            return
        last: Any = None
        for window in windows:
            parts = [part for _, part in window.parts] if window.below else []
            blocks = [self._form.whole(parts)] if parts else [] if window.below else (part for _, part in window.parts)
            for block in blocks:
                rows = self._row_columns.new(block.rows).nonzero()[0]
                first, end = (self._order.rank(self._key(block.rows, at)) for at in (0, len(block) - 1))
                if last is not None and first == last:  # it began in the window before
                    rows = rows[1:]
                last = end
                if len(rows):
                    yield rows_at(block.rows, rows)

    def _key(self, rows: Any, at: int) -> Any:
        one = rows.slice(at, 1) if is_arrow(rows) else rows[at : at + 1]
        return self._row_columns.raw(one, [0])[0]

    def state(self) -> Any:
        """Everything held, to be pickled."""
        return [part for _, part in self._columns.state() or []]

    def add_back(self, state: Any) -> None:
        """Take in what :meth:`state` gave."""
        for part in state:
            self._columns.add(0, part)

    def close(self) -> None:
        """Forget everything. Idempotent."""
        self._columns.close()


class _ByForm(RowHash):
    """By the key of records, or by the key columns."""

    def __init__(self, n: int, label: str, task: int, order: RecordOrder, columns: RecordOrder) -> None:
        super().__init__(n, label, task, columns)
        self._records = RowHash(n, label, task, order)

    def assign(self, batch: Batch) -> Any:
        return self._records.assign(batch) if isinstance(batch, list) else super().assign(batch)


def _first(key: Any, left: tuple[int, Any], right: tuple[int, Any]) -> tuple[int, Any]:
    return right if right[0] < left[0] else left


def _whole_record(record: Any) -> Any:
    """A record as its own key; of a dict its items, in order of names."""
    if isinstance(record, dict):
        return tuple(sorted(record.items(), key=_name_of))
    return record.item() if getattr(getattr(record, "dtype", None), "names", None) else record


def _name_of(item: tuple[Any, Any]) -> str:
    return str(item[0])
