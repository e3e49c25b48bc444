"""Keyed operators whose targets hold everything until a mark: what keyed_gather and join share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_bytes, records
from twister2.spec.tracebacks import short
from twister2_net.combining.pairs import is_pair, records_of
from twister2_net.exchange.aggregating import AggregatingOperator
from twister2_net.operators.partitioning import KeyedPartition
from twister2_net.problems import mixed_forms, no_pair, user_error, wrong_option
from twister2_net.selectors.custom import OfRecords
from twister2_net.selectors.key_columns import PAIR_KEY, keys_of_columns
from twister2_net.selectors.record_keys import record_key
from twister2_net.spilling.key_order import Ranking
from twister2_net.spilling.queues import HeldBatches, pieces
from twister2_net.spilling.tables import BATCH_BYTES, GroupTable, sliced, sliced_by_weight

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2.spec.channel import HeaderKind
    from twister2_net.selectors.base import Selector
    from twister2_net.selectors.record_keys import RecordKey
    from twister2_net.spilling.tables import Group


_SMALL = 1 << 14


def _values_of(group: tuple[Any, Any]) -> int:
    return len(group[1])


def check_order(order: Any, label: str) -> None:
    """Whether an option ``order`` can mean anything.

    :raises OperatorError: it is neither True, False, None nor a function.
    """
    if order is not None and not isinstance(order, bool) and not callable(order):
        raise wrong_option(
            label, "order", f"{short(order)} is neither True nor a function", "give True, or a function of a key"
        )


class Held(ABC):
    """What one target of a keyed operator holds, of one form. Made with the first batch."""

    form = ""
    """Of the batches, as :func:`form_name` calls it; arrays that do not stay such are pairs."""

    @abstractmethod
    def add(self, side: int, batch: Batch) -> None:
        """Take in a batch."""

    @abstractmethod
    def emit(self) -> Iterator[Batch]:
        """Everything held, as what the operator delivers. Afterwards nothing is held."""

    @abstractmethod
    def state(self) -> Any:
        """Everything held, to be pickled: ``("groups", ...)`` or ``("batches", [(side, batch)...])``; None when
        nothing is.
        """

    @abstractmethod
    def add_back(self, state: Any) -> None:
        """Take in what :meth:`state` gave."""

    @abstractmethod
    def close(self) -> None:
        """Forget everything. Idempotent."""


class HeldPairs(Held):
    """Pairs, in groups."""

    def __init__(self, owner: HoldingOperator, task: int, sides: int) -> None:
        self._owner = owner
        self._task = task
        ranking = Ranking(owner.options["order"], owner.label)
        self._table = GroupTable(owner.context.memory, owner.holder(task), ranking, sides)

    def add(self, side: int, batch: Batch) -> None:
        pairs = self._owner.pairs(side, batch)
        self._table.add(side, pairs, n_bytes(pairs), self._task)

    def emit(self) -> Iterator[Batch]:
        records = self._owner.delivered(self._table.groups())
        count, most = self._owner.config.batch_records, max(1, BATCH_BYTES // self._table.record_bytes)
        if self._owner.delivers_groups:
            return sliced_by_weight(records, count, _values_of, most)
        return sliced(records, min(count, most))

    def state(self) -> Any:
        state = self._table.state()
        return None if state is None else ("groups", state)

    def add_back(self, state: Any) -> None:
        self._table.add_back(state[1])

    def close(self) -> None:
        self._table.close()


class HoldingOperator(KeyedPartition, AggregatingOperator):
    """Base of keyed operators whose targets hold everything until a mark: keyed_gather and join."""

    delivers_groups = False
    """Whether its records are pairs of a key and many values."""
    keeps_columns = True
    """Whether Arrow batches stay columns,"""
    keeps_arrays = False
    """and arrays; else their rows are pairs, as those of lists."""
    selecting = ("bounds",)

    def prepare(self) -> None:
        self.options.setdefault("descending", False)
        super().prepare()
        check_order(self.options["order"], self.label)
        self.by_source, self.ordered = self.ordered, False
        self.record_keys = self.keys_of_inputs()
        self.key = PAIR_KEY

    def begin(self) -> None:
        super().begin()
        self._held: dict[int, Held] = {}
        self._emitting: list[Held] = []
        self._lines: dict[int, dict[int, HeldBatches[Batch]]] = {target: {} for target in self.local_targets}

    def holder(self, target: int) -> str:
        """The name under which a target holds records."""
        return f"{self.label}: held for task {target}"

    # -- for subclasses --------------------------------------------------------------------------------------------

    def keys_of_inputs(self) -> Sequence[RecordKey]:
        """What tells the key of a record, for each input."""
        return [record_key(self.options.get("key"), self.label)]

    @abstractmethod
    def make(self, target: int, batch: Batch) -> Held:
        """What will hold batches such as this one."""

    @abstractmethod
    def pairs(self, side: int, batch: Batch) -> list[tuple[Any, Any]]:
        """The pairs of a batch of one side."""

    @abstractmethod
    def delivered(self, groups: Iterator[Group]) -> Iterator[Any]:
        """What becomes of groups."""

    # -- sending side ----------------------------------------------------------------------------------------------

    def selector(self, source: int, n: int) -> Selector:
        key = self.record_keys[self.context.input_of(source)]
        self.columns = key.columns
        made = super().selector(source, n)
        return made if isinstance(self.partitioner, str) or key.function is None else OfRecords(made)

    def take(self, source: int, batch: Batch) -> None:
        key = self.record_keys[self.context.input_of(source)]
        if key.function is None and not self.keeps_columns and is_arrow(batch) and batch.num_columns:
            key = record_key(batch.schema.names[0], self.label)  # the other side has rows with keys, so this one has
        if key.function is not None and not (self.keeps_columns and key.columns and is_arrow(batch)):
            batch = self._keyed(source, batch, key)
        super().take(source, batch)

    def _keyed(self, source: int, batch: Batch, key: RecordKey) -> list[tuple[Any, Any]]:
        """Pairs of a key and its record."""
        keys = keys_of_columns(batch, key.columns, self.label)
        if keys is not None:
            return list(zip(keys, records(batch), strict=True))
        assert key.function is not None
        function = key.function
        found: list[tuple[Any, Any]] = []
        record: Any = None
        try:
            for record in records(batch):
                found.append((function(record), record))
        except Exception as error:
            raise user_error(error, "key function", self.label, source, record) from error
        return found

    # -- holding ---------------------------------------------------------------------------------------------------

    def gathered(self, lane: int, source: int, value: Any) -> None:
        if not self.by_source:
            self._hold(lane, source, value)
            return
        lines = self._lines[lane]
        if source not in lines:
            lines[source] = HeldBatches(self.context.memory, f"{self.holder(lane)}, from {source}")
        lines[source].put(value, n_bytes(value))

    def _hold(self, lane: int, source: int, value: Any) -> None:
        held = self._held.get(lane)
        form = "pairs" if is_array(value) and not self.keeps_arrays else form_name(value)
        if held is None:
            held = self._held[lane] = self.make(lane, value)
            held.form = form
        if held.form != form:
            raise mixed_forms(self.label, lane, form, held.form)
        side = self.context.input_of(source)
        for piece in pieces(self.context.memory, value) if n_bytes(value) > _SMALL else (value,):
            held.add(side, piece)

    def emit(self, lane: int, kind: HeaderKind) -> Iterator[Batch]:
        lines, self._lines[lane] = self._lines[lane], {}
        for source in sorted(lines):
            for batch in lines[source].drain():
                self._hold(lane, source, batch)
        held = self._held.pop(lane, None)
        if held is None:
            return iter(())
        self._emitting.append(held)
        return self._walk(held)

    def _walk(self, held: Held) -> Iterator[Batch]:
        yield from held.emit()
        held.close()
        self._emitting.remove(held)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def state(self, lane: int) -> Any:
        lines = {source: list(line.peek()) for source, line in self._lines[lane].items()}
        held = self._held.get(lane)
        state = None if held is None else (held.form, held.state())
        return (lines, state) if lines or state is not None else None

    def take_back(self, lane: int, state: Any) -> None:
        lines, held = state
        for source, batches in lines.items():
            for batch in batches:
                self.gathered(lane, source, batch)
        if held is not None and held[1] is not None:
            form, parts = held
            made = self._held[lane] = self.make(lane, parts[1][0][1] if parts[0] == "batches" else [])
            made.form = form
            made.add_back(parts)

    def close(self) -> None:
        if not self.closed:
            for lines in self._lines.values():
                for line in lines.values():
                    line.close()
            for held in [*self._held.values(), *self._emitting]:
                held.close()
            self._held.clear()
            self._emitting.clear()
        super().close()


def pairs_of(batch: Batch, label: str) -> list[tuple[Any, Any]]:
    """The records of a batch as pairs.

    :raises OperatorError: an Arrow batch has not two columns; the records of an array are no pairs.
    """
    pairs = records_of(batch, label)
    if is_array(batch) and pairs and not is_pair(pairs[0]):
        raise no_pair(label, -1, pairs[0])
    return pairs


def form_name(batch: Batch) -> str:
    """How a batch is called in messages, and what holds it is told apart by."""
    return "Arrow batches" if is_arrow(batch) else "arrays" if is_array(batch) else "pairs"
