"""Narrow steps on pairs and on columns."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.batch import Batch, is_array, is_arrow, n_records, python_values, records
from twister2.spec.declarations import Declarations
from twister2.spec.errors import OperatorError
from twister2.spec.tasks import Compute, Emit, TaskContext
from twister2_tset.columns import same
from twister2_tset.forms import SAME
from twister2_tset.narrow import RecordStep, no_iterable
from twister2_tset.problems import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def pairs_of(batch: Batch, step: str) -> list[tuple[Any, Any]]:
    """The records of a batch as pairs: tuples, rows of two columns.

    :raises OperatorError: they are none.
    """
    if is_arrow(batch) and batch.num_columns == 2:
        return list(zip(python_values(batch.column(0)), python_values(batch.column(1)), strict=True))
    rows: list[Any] = batch.tolist() if is_array(batch) else list(records(batch))
    if list(map(type, rows)).count(tuple) != len(rows) or list(map(len, rows)).count(2) != len(rows):
        for row in rows:
            if not isinstance(row, (tuple, list)) or len(row) != 2:
                raise no_pair(step, row)
    return rows


def no_pair(step: str, record: Any) -> OperatorError:
    """The error for a record that is no pair."""
    return OperatorError(
        f"{step} takes (key, value) pairs, and was given {short(record)}",
        why=f"a record of type {type(record).__name__} is no pair",
        remedy="make pairs first: map_to_tuple(function) or key_by(function)",
        details={"record": short(record)},
    )


class PairStep(RecordStep):
    """Base of steps that apply a function to the values of pairs."""

    step: ClassVar[str]

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Apply it to the pairs of a batch."""
        super().process(pairs_of(batch, self.step), emit, edge)


class MapValues(PairStep):
    """Pairs of the key and the function of the value."""

    step = "map_values"
    declares: ClassVar[Declarations] = Declarations(never_more=True, keeps_keys=True, by_record=True)

    def apply(self, walk: Iterator[Any]) -> list[Any]:
        """Those of one batch."""
        function = self.function
        return [(key, function(value)) for key, value in walk]


class FlatMapValues(PairStep):
    """A pair of the key and each item of what the function of the value returns."""

    step = "flat_map_values"
    declares: ClassVar[Declarations] = Declarations(keeps_keys=True, by_record=True)

    def apply(self, walk: Iterator[Any]) -> list[Any]:
        """Those of one batch."""
        function = self.function
        found: list[Any] = []
        for key, value in walk:
            part = function(value)
            if not hasattr(type(part), "__iter__") and not hasattr(type(part), "__getitem__"):
                raise no_iterable(function, part, self.step)
            found.extend((key, item) for item in part)
        return found


class KeyBy(RecordStep):
    """Pairs of the function of the record, and the record."""

    declares: ClassVar[Declarations] = Declarations(never_more=True, by_record=True)

    def apply(self, walk: Iterator[Any]) -> list[Any]:
        """Those of one batch."""
        function = self.function
        return [(function(record), record) for record in walk]


class Side(Compute):
    """The keys (0) or the values (1) of pairs."""

    narrow: ClassVar[bool] = True
    declares: ClassVar[Declarations] = Declarations(never_more=True)

    def __init__(self, which: int) -> None:
        self._which = which

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Those of one batch; a column stays an array's."""
        which = self._which
        emit([pair[which] for pair in pairs_of(batch, ("keys", "values")[which])])


class AsPairs(Compute):
    """Sees to it that records are pairs, as Python's own."""

    narrow: ClassVar[bool] = True
    declares: ClassVar[Declarations] = Declarations(never_more=True, keeps_keys=True)

    def __init__(self, step: str) -> None:
        self._step = step

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hand on the pairs of a batch."""
        emit(pairs_of(batch, self._step))


class Sample(Compute):
    """Each record with a probability. The same records for the same seed and partition, however they are batched."""

    narrow: ClassVar[bool] = True
    gives: ClassVar[str] = SAME
    declares: ClassVar[Declarations] = Declarations(
        never_more=True, keeps_keys=True, indifferent=False, schema=same, looks_at=()
    )

    def __init__(self, fraction: float, seed: int) -> None:
        self._fraction = fraction
        self._seed = seed
        self._draw: Callable[[], float] = random.random

    def open(self, context: TaskContext) -> None:
        """Begin the partition's own sequence."""
        self._draw = random.Random(f"{self._seed} {context.index}").random

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Draw for every record of a batch."""
        draw, fraction = self._draw, self._fraction
        chosen = [place for place in range(n_records(batch)) if draw() < fraction]
        if is_arrow(batch) or is_array(batch):
            emit(batch.take(chosen) if is_arrow(batch) and chosen else batch[chosen] if chosen else [])
        else:
            emit([batch[place] for place in chosen])


class Swap(Compute):
    """Pairs the other way round."""

    narrow: ClassVar[bool] = True

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Those of one batch."""
        emit([(right, left) for left, right in batch])


class RowsToPairs(Compute):
    """Pairs ``(key, value)`` of rows: the key is a column, or a tuple of several."""

    narrow: ClassVar[bool] = True
    declares: ClassVar[Declarations] = Declarations(never_more=True)

    def __init__(self, keys: Sequence[str], value: str) -> None:
        self._keys = tuple(keys)
        self._value = value

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Those of one batch."""
        columns = [column_of(batch, name) for name in (*self._keys, self._value)]
        *keys, values = columns
        emit(list(zip(keys[0] if len(keys) == 1 else zip(*keys, strict=True), values, strict=True)))


def column_of(batch: Batch, name: str) -> list[Any]:
    """A column of rows, as Python objects."""
    if is_arrow(batch):
        return python_values(batch.column(name))
    if is_array(batch):
        return batch[name].tolist()  # type: ignore[no-any-return]
    return [row[name] for row in batch]


class Head(Compute):
    """The first records of a partition.

    :param enough: called when there are as many; the source of the partition may stop then.
    """

    narrow: ClassVar[bool] = False
    gives: ClassVar[str] = SAME
    declares: ClassVar[Declarations] = Declarations(
        never_more=True, keeps_keys=True, indifferent=False, schema=same, looks_at=()
    )

    def __init__(self, n: int, enough: Callable[[int], object] = bool) -> None:
        self._left = n
        self._enough = enough
        self._index = 0

    def open(self, context: TaskContext) -> None:
        """Note the partition."""
        self._index = context.index
        if not self._left:
            self._enough(self._index)

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hand on what is still wanted."""
        if not self._left:
            return
        some = batch if n_records(batch) <= self._left else _first(batch, self._left)
        self._left -= n_records(some)
        emit(some)
        if not self._left:
            self._enough(self._index)


def _first(batch: Batch, n: int) -> Batch:
    return batch.slice(0, n) if is_arrow(batch) else batch[:n]
