"""aggregate: records become one result, or one for each key, by functions or by name.

Each worker folds what its sources send, states go to their target, which merges them. Sums, counts, extremes, means and
variances of columns are made by pyarrow, without a look at single records.
"""

from __future__ import annotations

from copy import deepcopy
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from twister2.spec.batch import Batch, is_array, is_arrow, n_bytes, n_records, python_value, records
from twister2.spec.errors import MemoryBudgetError, OperatorError, Twister2Error
from twister2.spec.tracebacks import short
from twister2_net.combining.pairs import KeyValues, Table, is_pair, records_of
from twister2_net.exchange.lanes import DATA
from twister2_net.exchange.parts import split
from twister2_net.operators.aggregating_columns import ColumnPlan
from twister2_net.operators.aggregating_options import Wanted
from twister2_net.operators.keyed_gathering import batches_of
from twister2_net.operators.keyed_reducing import KeyedCombine
from twister2_net.problems import mixed_forms, no_hash, no_pair, user_error
from twister2_net.selectors.hashing import Hash
from twister2_net.selectors.row_hash import RowHash
from twister2_net.spilling.record_order import RecordOrder
from twister2_net.spilling.row_columns import RowColumns
from twister2_net.spilling.sorted_columns import SortedColumns
from twister2_net.spilling.sorted_rows import RowForm, Tagged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twister2.spec.channel import HeaderKind
    from twister2_net.spilling.tables import FoldTable

_ROWS = 1 << 22
"""Rows of columns that are grouped at once,"""
_SHARE = 8
"""if they take no more than this part of the memory budget."""


class Aggregate(KeyedCombine):
    """One result of all records at every target, or pairs ``(key, result)`` at the target of the key."""

    def prepare(self) -> None:
        super().prepare()
        self.wanted = Wanted(self.options, self.context.options, self.label)
        self.keyed = self.wanted.keyed
        self.fold = self.wanted.fold
        self.reducer = self.fold.merge

    # -- sending side ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        super().begin()
        memory = self.context.memory
        self._raw: list[Any] = []
        self._raw_rows = self._raw_bytes = 0
        self._partials: list[Any] = []
        self._column_room = memory.reserve(f"{self.label}: combining columns", revoke=self._revoke_columns)
        self._plan: ColumnPlan | None = None
        self._columns: dict[int, _HeldColumns] = {}
        self._emitting_columns: list[_HeldColumns] = []
        use = memory.use()
        self._most_bytes = use.budget // _SHARE if use.limit else 0

    def _revoke_columns(self, wanted: int) -> int:
        self._short = self._short or bool(self._raw or self._partials)
        return 0

    def take(self, source: int, batch: Batch) -> None:
        if not n_records(batch):
            return
        table = self.wanted.columns_of(batch) if self.keyed and not isinstance(batch, list) else None
        plan = None if table is None else self.wanted.plan_of(table)
        if table is None or plan is None:
            super().take(source, batch)
            return
        if self._short:
            self._flush()
        self._plan = plan
        projected = plan.projected(table)
        self._raw.append(projected)
        self._raw_rows += projected.num_rows
        self._raw_bytes += n_bytes(projected)
        self._weigh_columns()
        if self._short:
            self._flush()
        elif self._raw_rows >= _ROWS or 0 < self._most_bytes < self._column_room.size:
            self._group()

    def _weigh_columns(self) -> None:
        try:
            self._column_room.resize(self._raw_bytes + sum(map(n_bytes, self._partials)))
        except MemoryBudgetError:
            self._short = True

    def _group(self) -> None:
        """Combine the rows that wait; and partial tables, once they are as large again as the first."""
        plan = self._plan
        assert plan is not None
        if self._raw:
            self._partials.append(plan.partial(self._raw))
            self._raw, self._raw_rows, self._raw_bytes = [], 0, 0
        if sum(part.num_rows for part in self._partials) >= 2 * max(_ROWS, self._partials[0].num_rows):
            self._partials = [plan.merged(self._partials)]
        self._weigh_columns()
        if 0 < self._most_bytes < self._column_room.size:
            self._flush()

    def combine(self, table: Table, batch: Batch, source: int) -> None:
        if self.keyed:
            self._combine_keyed(table, batch, source)
            return
        me = self.context.network.worker_id
        whole = self.wanted.state_of(batch)
        if whole is not None:
            table[me] = self.fold.merge(table[me], whole[0]) if me in table else whole[0]
            return
        state = table[me] if me in table else self.fold.zero()
        table[me] = self._added(state, self._values(batch), source)

    def _values(self, batch: Batch) -> Iterable[Any]:
        return map(python_value, batch) if is_array(batch) and batch.ndim == 1 else records(batch)

    def _added(self, state: Any, values: Iterable[Any], source: int) -> Any:
        add = self.fold.add
        value: Any = None
        try:
            for value in values:
                state = add(state, value)
        except Exception as error:
            raise self._blamed(error, "add", source, value) from error
        return state

    def _combine_keyed(self, table: Table, batch: Batch, source: int) -> None:
        pairs = self.wanted.pairs
        rows: Iterable[Any] = records_of(batch, self.label) if pairs else records(batch)
        key_of, add, zero = self.wanted.order.key_of, self.fold.add, self.fold.zero
        record: Any = None
        for record in rows:
            if pairs and not is_pair(record):
                raise no_pair(self.label, source, record)
            try:
                key = record if key_of is None else key_of(record)
            except Exception as error:
                raise user_error(error, "key function", self.label, source, record) from error
            try:
                state = table[key] if key in table else zero()
            except TypeError as error:
                raise no_hash(self.label, source, key, error) from error
            try:
                table[key] = add(state, record[1] if pairs else record)
            except Exception as error:
                raise self._blamed(error, "add", source, record) from error

    def _blamed(self, error: Exception, role: str, task: int, record: Any) -> Exception:
        if isinstance(error, TypeError) and self.options.get("aggregates") is not None:
            raised = OperatorError(
                f"{self.label} cannot combine {short(record)}: {error}",
                why="its values are of types that cannot be added or compared",
                remedy='name a column of numbers: ("column", "sum"); or map the records to numbers first, and leave out'
                " those that are none",
                where=f"{self.label}, task {task}",
                details={"record": short(record)},
            )
            raised.__cause__ = error
            return raised
        return user_error(error, role, self.label, task, record)

    def _flush(self) -> None:
        if self._raw or self._partials:
            self._send_columns()
        super()._flush()

    def _send_columns(self) -> None:
        plan = self._plan
        assert plan is not None
        partials, raw = self._partials, self._raw
        self._partials, self._raw = [], []
        self._raw_rows = self._raw_bytes = 0
        if raw:
            partials.append(plan.partial(raw))
        whole = partials[0] if len(partials) == 1 else plan.merged(partials)
        self._column_room.resize(0)
        whole = whole.replace_schema_metadata(plan.described())
        n, limit = len(self.receivers), 4 * self.config.batch_records
        only = 0 if n == 1 else self.only_target
        if only is not None:
            parts: Iterable[tuple[int, Any]] = [(only, whole)]
        else:
            parts = split(whole, self._targets(plan, whole, n), n)
        for target, part in parts:
            for piece in part.combine_chunks().to_batches(max_chunksize=limit):
                self.push(self.my_senders[0], target, DATA, piece)

    def _targets(self, plan: ColumnPlan, whole: Any, n: int) -> Sequence[int]:
        """The target of each row: of one key as of that of a pair, so that pairs lie as they do elsewhere."""
        names = plan.key_names
        if len(names) > 1:
            return RowHash(n, self.label, -1, RecordOrder(names, False, None, self.label)).assign(whole)
        kind = plan.kinds.get(plan.keys[0], "")
        if self.wanted.pairs and kind[1:2] in ("M", "m"):  # of arrays: times that Python cannot tell are numbers there
            times = whole.column(names[0]).to_numpy().astype(kind)
            return Hash(n, self.label, -1, None).assign(times.tolist())
        return Hash(n, self.label, -1, None, tuple(names)).assign(whole)

    def _scatter(self, table: Table) -> Iterator[tuple[int, KeyValues]]:
        if self.keyed:
            yield from super()._scatter(table)
            return
        for target in range(len(self.receivers)):
            states = list(table.values())
            yield target, KeyValues(list(table), deepcopy(states) if target else states)  # each may change its own

    # -- receiving side --------------------------------------------------------------------------------------------

    def merge(self, table: Table, part: KeyValues, target: int) -> None:
        for key, state in zip(part.keys, part.values, strict=True):
            try:
                table[key] = self.reducer(table[key], state) if key in table else state
            except Exception as error:
                raise self._blamed(error, "merge", target, (key, table.get(key), state)) from error

    def gathered(self, lane: int, source: int, value: Any) -> None:
        mixed = self.tables[lane] if is_arrow(value) else lane in self._columns
        if mixed:
            given, there = ("columns", "lists") if is_arrow(value) else ("lists", "columns")
            raise mixed_forms(self.label, lane, given, there)
        if not is_arrow(value):
            super().gathered(lane, source, value)
            return
        held = self._columns.get(lane)
        if held is None:
            plan = ColumnPlan.of(value.schema.metadata, self.label)
            order = RecordOrder(plan.key_names, False, None, self.label)
            form = RowForm(order, RowColumns(order))
            name = f"{self.label}: columns of task {lane}"
            held = self._columns[lane] = _HeldColumns(plan, SortedColumns(self.context.memory, name, [form]))
        held.columns.add(0, Tagged(value, 0))

    def emit(self, lane: int, kind: HeaderKind) -> Iterator[Batch]:
        held = self._columns.pop(lane, None)
        if held is None:
            return super().emit(lane, kind)
        self._emitting_columns.append(held)
        return self._from_columns(held)

    def _batches(self, table: FoldTable) -> Iterator[list[Any]]:
        if self.keyed:
            yield from super()._batches(table)
            return
        states = [state for _, state in sorted(table.results(), key=itemgetter(0))]
        state = states[0] if states else self.fold.zero()
        for other in states[1:]:
            try:
                state = self.reducer(state, other)
            except Exception as error:
                raise self._blamed(error, "merge", -1, (state, other)) from error
        table.close()
        self._emitting.remove(table)
        yield [self._result(state)]

    def delivered(self, pairs: Iterator[tuple[Any, Any]]) -> Iterator[Any]:
        names = self.wanted.key_names if self.wanted.named is not None else ()
        for key, state in pairs:
            result = self._result(state)
            if names:
                keys = (key,) if len(names) == 1 else key
                yield {**dict(zip(names, keys, strict=True)), **result}
            else:
                yield key, result

    def _result(self, state: Any) -> Any:
        try:
            return self.fold.result(state)
        except Twister2Error:
            raise
        except Exception as error:
            raise user_error(error, "result", self.label, -1, state) from error

    def _from_columns(self, held: _HeldColumns) -> Iterator[Batch]:
        for table in self._merged(held):
            yield from batches_of(held.plan.delivered(table), self.config.batch_records)
        held.columns.close()
        self._emitting_columns.remove(held)

    def _merged(self, held: _HeldColumns) -> Iterator[Any]:
        """The results, a table at a time."""
        plan = held.plan
        windows = held.columns.windows()
        if windows is None:
            tables = _tables(held.columns.here(0))
            held.columns.here(0).clear()
            yield plan.finished(plan.merged(tables))
            return
        for window in windows:
            some = (part for _, part in window.parts)
            if window.below:
                yield plan.finished(plan.merged(_tables(some)))
                continue
            whole: list[Any] = []
            for part in some:  # of one key
                whole = [plan.merged([*whole, *_tables([part])])]
            if whole:
                yield plan.finished(whole[0])

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def state(self, lane: int) -> Any:
        held, pairs = self._columns.get(lane), super().state(lane)
        if held is None:
            return None if pairs is None else (pairs, None, [])
        parts = held.columns.state() or []
        return pairs, held.plan.described(), [part.rows for _, part in parts]

    def take_back(self, lane: int, state: Any) -> None:
        pairs, described, parts = state
        if pairs is not None:
            super().take_back(lane, pairs)
        for rows in parts:
            self.gathered(lane, -1, rows.replace_schema_metadata(described))

    def close(self) -> None:
        if not self.closed:
            self._column_room.release()
            self._raw, self._partials = [], []
            for held in [*self._columns.values(), *self._emitting_columns]:
                held.columns.close()
        super().close()


class _HeldColumns(NamedTuple):
    """Partial tables of one target, and how they were made."""

    plan: ColumnPlan
    columns: SortedColumns


def _tables(parts: Iterable[Tagged]) -> list[Any]:
    """Partial tables, as tables of Arrow."""
    import pyarrow

    return [
        part.rows if isinstance(part.rows, pyarrow.Table) else pyarrow.Table.from_batches([part.rows]) for part in parts
    ]
