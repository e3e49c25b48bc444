"""Steps that keep something per partition until its end: counting, the largest records, sorting, numbering."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.graph import walking
from twister2.spec.batch import Batch, n_bytes, n_records
from twister2.spec.declarations import Declarations
from twister2.spec.errors import OperatorError
from twister2.spec.tasks import Compute, Emit, TaskContext
from twister2.spec.values import Value
from twister2_tset.narrow import as_form
from twister2_tset.problems import short

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2_tset.narrow import BatchForm
    from twister2_tset.sinks import Guard

EMIT_RECORDS = 8192
"""Records of one batch of a sorted partition."""


class CountRecords(Compute):
    """Emits the number of records of its partition."""

    declares: ClassVar[Declarations] = Declarations(indifferent=True, reads=())

    def __init__(self) -> None:
        self._count = 0

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Count a batch."""
        self._count += n_records(batch)

    def finish(self, emit: Emit) -> None:
        """One number."""
        emit([self._count])


@attrs.frozen(eq=False, repr=False)
class Ranked(Value):
    """A record with its key and its place: partition and number in it. Ties go to the earlier place."""

    key: Any
    record: Any
    place: tuple[int, int]


@attrs.frozen(eq=False, repr=False)
class Best(Value):
    """The reducer that keeps the ``n`` best of two lists of :class:`Ranked`. What is missing is the last, as in a sort:
    NaN, and behind it None.
    """

    n: int
    largest: bool
    step: str = "top"

    def __call__(self, one: list[Ranked], other: list[Ranked]) -> list[Ranked]:
        """Merge two lists."""
        by_place = sorted([*one, *other], key=lambda ranked: ranked.place)
        there = [ranked for ranked in by_place if not missing(ranked.key)]
        lost = [ranked for ranked in by_place if missing(ranked.key)]
        try:
            there.sort(key=lambda ranked: ranked.key, reverse=self.largest)
        except TypeError as error:
            raise incomparable(self.step, error) from error
        return [*there, *sorted(lost, key=lambda ranked: missing(ranked.key))][: self.n]


def missing(key: Any) -> int:
    """0 of a key that has an order, else its place behind all that have: 1 of NaN, 2 of None."""
    if key is None:
        return 2
    return 0 if key == key else 1


class TopRecords(Compute):
    """Emits a list of the ``n`` largest (or smallest) records of its partition."""

    def __init__(self, best: Best, key: Callable[[Any], Any] | None) -> None:
        self._best = best
        self._key = key
        self._found: list[Ranked] = []
        self._number = 0
        self._index = 0

    def open(self, context: TaskContext) -> None:
        """Note the partition, which decides between equals."""
        self._index = context.index

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Keep the best of a batch."""
        n, largest, key = self._best.n, self._best.largest, self._key
        with walking(batch) as walk:
            keyed = [(key(record), record) for record in walk] if key is not None else [(item, item) for item in walk]
        pick = heapq.nlargest if largest else heapq.nsmallest
        numbered = list(zip(keyed, count(self._number), strict=False))
        there = [item for item in numbered if not missing(item[0][0])]
        try:
            chosen = pick(n, there, key=lambda item: item[0][0])
        except TypeError as error:
            raise incomparable(self._best.step, error) from error
        if len(chosen) < min(n, len(numbered)):
            lost = [item for item in numbered if missing(item[0][0])]
            chosen += sorted(lost, key=lambda item: missing(item[0][0]))[: n - len(chosen)]
        new = [Ranked(pair[0], pair[1], (self._index, number)) for pair, number in chosen]
        self._found = self._best(self._found, new)
        self._number += len(keyed)

    def finish(self, emit: Emit) -> None:
        """One list."""
        emit([self._found])


class Number(Compute):
    """Wraps each batch as one record ``(partition, number of the batch, its records)``.

    :param guard: says when there are too many in one partition. :param form: of the records.
    """

    def __init__(self, guard: Guard | None = None, form: BatchForm = "list") -> None:
        self._guard = guard
        self._form: BatchForm = form
        self._batches = self._records = self._bytes = 0
        self._index = 0

    def open(self, context: TaskContext) -> None:
        """Note the partition."""
        self._index = context.index

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Wrap a batch."""
        if self._guard is not None:
            self._records += n_records(batch)
            self._bytes += n_bytes(batch)
            self._guard.check(self._records, self._bytes)
        emit([(self._index, self._batches, as_form(batch, self._form))])
        self._batches += 1


def incomparable(step: str, error: TypeError) -> OperatorError:
    """The error for records that have no order."""
    return OperatorError(
        f"{step}: two records cannot be compared: {error}",
        why="their keys are of types that have no order",
        remedy=f"give {step}(key=...) a function whose results can be compared, e.g. key=str",
        details={"error": short(error)},
    )
