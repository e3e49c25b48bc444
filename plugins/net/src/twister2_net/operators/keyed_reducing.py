"""Keyed operators that combine: each worker combines what its sources send, keys go to their targets, which finish.

All sources of a worker share one table, which is sent on when it holds ``combine_keys`` keys, when memory gets short,
and at marks and the end. Values are combined in order of arrival: exact for integers and other values whose
combination is exact; sums of floats may differ in the last bits between runs. On streams a target emits at each FLUSH
mark what came since the last one.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, python_values
from twister2.spec.errors import KeyHashError, MemoryBudgetError
from twister2.spec.hashing import tasks_of_keys
from twister2.spec.tracebacks import short
from twister2_net.combining.pair_columns import combined
from twister2_net.combining.pairs import KeyValues, Table, is_pair, merge_pairs, records_of
from twister2_net.combining.reducers import Reducer, name_of, reducer_for, ufunc_for
from twister2_net.exchange.aggregating import AggregatingOperator
from twister2_net.exchange.lanes import CLOSING, DATA, END, GatedOperator, workers_of
from twister2_net.exchange.placing import inputs_in_place
from twister2_net.problems import no_hash, no_pair, user_error
from twister2_net.spilling.key_order import WITHOUT_NAN, Ranking, canonical, has_nan, restored
from twister2_net.spilling.table_size import SizedTable
from twister2_net.spilling.tables import BATCH_BYTES, FoldTable, sliced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from twister2.spec.channel import HeaderKind


_AT_ONCE = 2048
"""Pairs that are merged before the memory they take is looked at."""


class KeyedCombine(GatedOperator, AggregatingOperator):
    """Base of the keyed operators that combine."""

    reducer: Reducer

    def prepare(self) -> None:
        self.in_place = inputs_in_place(self.options, self.context, self.label)

    @property
    def only_target(self) -> int | None:
        """The target of everything that this worker sends, where its sources lie so; else keys say it."""
        return self.local_sources[0] if self.in_place and len(self.local_sources) == 1 else None

    def lanes(self) -> tuple[Sequence[int], Sequence[int]]:
        return workers_of(self.context.sources), self.context.targets

    @abstractmethod
    def combine(self, table: Table, batch: Batch, source: int) -> None:
        """Take the records of a batch into a table."""

    def merge(self, table: Table, part: KeyValues, target: int) -> None:
        """Take pairs from a worker into the table of a target."""
        if not table:
            table.update(zip(part.keys, part.values, strict=True))
            return
        merge_pairs(table, zip(part.keys, part.values, strict=True), self.reducer)

    # -- sending side ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        super().begin()
        memory = self.context.memory
        self.table: Table = {}
        self._short = False
        budget = memory.use().budget if memory.use().limit else 0
        self._table_size = SizedTable(memory.reserve(f"{self.label}: combining", revoke=self._revoke), budget)
        self._most = budget // 8
        self.tables = {target: self._table_of(target) for target in self.local_targets}
        self._emitting: list[FoldTable] = []

    def _table_of(self, target: int) -> FoldTable:
        """An empty table for what comes to a target; it goes to disk when memory gets short."""

        def combine(key: Any, left: Any, right: Any) -> Any:
            try:
                return self.reducer(left, right)
            except Exception as error:
                raise user_error(error, "reducer", self.label, target, (key, left, right)) from error

        name = f"{self.label}: results of task {target}"
        return FoldTable(self.context.memory, name, Ranking(None, self.label), combine)

    def _revoke(self, wanted: int) -> int:
        """Memory is short: nothing can be freed at once, but the next batch finds an empty table."""
        self._short = bool(self.table)
        return 0

    def take(self, source: int, batch: Batch) -> None:
        if self._short:
            self._flush()
        self.combine(self.table, batch, source)
        try:
            self._table_size.grown(self.table)
            large = 0 < self._most < self._table_size.bytes
        except MemoryBudgetError:
            large = True
        if len(self.table) >= self.config.combine_keys or self._short or large:
            self._flush()

    def _flush(self) -> None:
        """Send the table's pairs to their targets."""
        self._short = False
        table, self.table = self.table, {}
        if not table:
            return
        lane = self.my_senders[0]
        limit = 4 * self.config.batch_records
        parts = list(self._scatter(table))
        del table
        self._table_size.cleared()  # what waits for room to be sent is counted there
        for target, part in parts:
            for start in range(0, len(part), limit):
                whole = len(part) <= limit
                keys = part.keys if whole else part.keys[start : start + limit]
                values = part.values if whole else part.values[start : start + limit]
                self.push(lane, target, DATA, KeyValues(keys, values))

    def _scatter(self, table: Table) -> Iterator[tuple[int, KeyValues]]:
        n = len(self.receivers)
        kinds = set(map(type, table))
        nans = False
        if not kinds <= WITHOUT_NAN:
            for key in [key for key in table if has_nan(key)]:
                value = table.pop(key)
                merge_pairs(table, [(canonical(key), value)], self.reducer)
                nans = True
        keys: list[Any] = list(table)
        only = 0 if n == 1 and kinds <= WITHOUT_NAN else self.only_target
        if only is not None:
            yield only, KeyValues(keys, list(table.values()))
            return
        targets = tasks_of_keys(list(map(restored, keys)) if nans else keys, n)
        parts = [KeyValues([], []) for _ in range(n)]
        add_key = [part.keys.append for part in parts]
        add_value = [part.values.append for part in parts]
        for target, key, value in zip(targets, keys, table.values(), strict=True):
            add_key[target](key)
            add_value[target](value)
        for target, part in enumerate(parts):
            if len(part):
                yield target, part

    def leaving(self, kind: HeaderKind, value: Any) -> None:
        if kind in CLOSING or kind == END:
            self._flush()
        super().leaving(kind, value)

    # -- receiving side --------------------------------------------------------------------------------------------

    def gathered(self, lane: int, source: int, value: Any) -> None:
        table = self.tables[lane]
        count = len(value)
        if count <= _AT_ONCE or not self._most:
            self.merge(table.table, value, lane)
            table.grown(count)
            return
        for start in range(0, count, _AT_ONCE):
            end = start + _AT_ONCE
            part = KeyValues(value.keys[start:end], value.values[start:end])
            self.merge(table.table, part, lane)
            table.grown(len(part))

    def emit(self, lane: int, kind: HeaderKind) -> Iterator[Batch]:
        table, self.tables[lane] = self.tables[lane], self._table_of(lane)
        self._emitting.append(table)
        return self._batches(table)

    def _batches(self, table: FoldTable) -> Iterator[list[Any]]:
        most = max(1, min(self.config.batch_records, BATCH_BYTES // table.record_bytes))
        yield from sliced(self.delivered(table.results()), most)
        table.close()
        self._emitting.remove(table)

    def delivered(self, pairs: Iterator[tuple[Any, Any]]) -> Iterator[Any]:
        """What becomes of keys with what was combined of them."""
        return pairs

    def state(self, lane: int) -> Any:
        return self.tables[lane].state()

    def take_back(self, lane: int, state: Any) -> None:
        self.tables[lane].add_back(state)

    def close(self) -> None:
        if not self.closed:
            self._table_size.release()
            self.table = {}
            for table in [*self.tables.values(), *self._emitting]:
                table.close()
        super().close()


class KeyedReduce(KeyedCombine):
    """Combine the values of each key with a reducer."""

    def prepare(self) -> None:
        super().prepare()
        given = self.options["reducer"]
        self.reducer = operator.add if name_of(given) == "sum" else reducer_for(given, self.label)
        self.ufunc = ufunc_for(given) if name_of(given) else None

    def combine(self, table: Table, batch: Batch, source: int) -> None:
        if self.ufunc is not None and not isinstance(batch, list):
            whole = combined(batch, self.ufunc, name_of(self.options["reducer"]))
            if whole is not None:
                merge_pairs(table, whole, self.reducer)
                return
        pairs = records_of(batch, self.label)
        if pairs and not (is_pair(pairs[0]) and is_pair(pairs[-1])):
            raise no_pair(self.label, source, pairs[-1] if is_pair(pairs[0]) else pairs[0])
        walk = iter(pairs)
        try:
            merge_pairs(table, walk, self.reducer)
        except Exception as error:
            index = len(pairs) - operator.length_hint(walk) - 1
            raise self._blame(error, pairs[index], source, table) from error

    def merge(self, table: Table, part: KeyValues, target: int) -> None:
        if not table:
            table.update(zip(part.keys, part.values, strict=True))
            return
        pairs = list(zip(part.keys, part.values, strict=True))
        walk = iter(pairs)
        try:
            merge_pairs(table, walk, self.reducer)
        except Exception as error:
            index = len(pairs) - operator.length_hint(walk) - 1
            raise self._blame(error, pairs[index], target, table) from error

    def _blame(self, error: Exception, record: Any, task: int, table: Table) -> Exception:
        if not is_pair(record):
            return no_pair(self.label, task, record)
        key, value = record
        try:
            hash(key)
        except TypeError as unhashable:
            return no_hash(self.label, task, key, unhashable)
        return user_error(error, "reducer", self.label, task, (key, table.get(key), value))


def _count_function() -> Callable[[Table, Iterable[Any]], None]:
    """The counting loop of ``collections.Counter``, in C where the interpreter has one."""
    import collections

    found: Callable[[Table, Iterable[Any]], None] | None = getattr(collections, "_count_elements", None)
    if found is not None:
        return found

    def count(table: Table, records: Iterable[Any]) -> None:
        get = table.get
        for record in records:
            table[record] = get(record, 0) + 1

    return count


class CountByValue(KeyedCombine):
    """Count equal records."""

    _count = staticmethod(_count_function())

    def prepare(self) -> None:
        super().prepare()
        self.reducer = operator.add

    def combine(self, table: Table, batch: Batch, source: int) -> None:
        if is_array(batch) and batch.ndim == 1 and batch.dtype.kind in "iubfSUMm":
            import numpy

            values, counts = numpy.unique(batch, return_counts=True)
            merge_pairs(table, zip(values.tolist(), counts.tolist(), strict=True), operator.add)
            return
        records: Any = batch
        if is_arrow(batch) and batch.num_columns == 1:
            import pyarrow.compute

            found = pyarrow.compute.value_counts(batch.column(0))
            pairs = zip(python_values(found.field(0)), found.field(1).to_pylist(), strict=True)
            merge_pairs(table, pairs, operator.add)
            return
        if is_arrow(batch):
            columns = [python_values(batch.column(index)) for index in range(batch.num_columns)]
            records = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        elif is_array(batch):
            records = batch.tolist() if batch.ndim == 1 else [tuple(row) for row in batch.tolist()]
        try:
            self._count(table, records)
        except TypeError as error:
            raise self._unhashable(records, source, error) from error

    def _unhashable(self, records: Iterable[Any], source: int, error: TypeError) -> Exception:
        for record in records:
            try:
                hash(record)
            except TypeError as unhashable:
                return no_hash(self.label, source, record, unhashable)
        return KeyHashError(
            f"{self.label} cannot count its records",
            why=str(error),
            remedy="use records that can be keys: numbers, str, bytes or tuples of these",
            details={"record": short(next(iter(records), None))},
        )
