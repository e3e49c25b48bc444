"""Aggregates: what partitions and keys are folded into, and how partial results are merged."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.graph import walking
from twister2.spec.batch import Batch, is_array, is_arrow, python_value, records
from twister2.spec.declarations import Declarations
from twister2.spec.errors import OperatorError
from twister2.spec.tasks import Compute, Emit, TaskContext
from twister2.spec.values import Value
from twister2_tset.columns import check_columns
from twister2_tset.keys import Column, shown
from twister2_tset.problems import kind_of, short
from twister2_tset.where import line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UNCHANGING = (int, float, complex, bool, str, bytes, type(None), frozenset)
_LARGEST = 2**63 - 1
_ADDED = frozenset({int, float})
"""Types of numbers that are added as they are, without a further look; those of numpy's overflow."""


@attrs.frozen(eq=False, repr=False)
class Zero(Value):
    """Makes the value that a fold begins with: a fresh one each time.

    :param given: the value, or a function without arguments that makes one.
    """

    given: Any

    def __call__(self) -> Any:
        given = self.given
        if callable(given):
            return given()
        return given if isinstance(given, _UNCHANGING) else copy.deepcopy(given)


class Fold(Compute):
    """Emits one value: the records of its partition, added one by one. Nothing for a partition without any."""

    declares: ClassVar[Declarations] = Declarations(indifferent=True)

    def __init__(self, zero: Zero, add: Callable[[Any, Any], Any], step: str) -> None:
        self._zero = zero
        self._add = add
        self._step = step
        self._value: Any = None
        self._begun = self._may_be_none = False

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Add the records of a batch."""
        with walking(batch) as walk:
            if not self._begun:
                self._value, self._begun = self._zero(), True
                self._may_be_none = self._value is None
            before, add, may_be_none = self._value, self._add, self._may_be_none
            for record in walk:
                value = add(before, record)
                if value is None and not may_be_none:
                    raise forgotten(add, self._step, before, record)
                before = value
        self._value = before

    def finish(self, emit: Emit) -> None:
        """One value."""
        if self._begun:
            emit([self._value])


def forgotten(add: Callable[[Any, Any], Any], step: str, before: Any, record: Any) -> OperatorError:
    """The error for a function that folds and returns nothing."""
    return OperatorError(
        f"the function add of {step} returned None for {short(before)} and {short(record)}",
        why="its result is what the next record is added to, and a function without a return statement returns None",
        remedy="return the new value; one that may be None begins with zero=None",
        where=line_of(add),
        details={"step": step},
    )


@attrs.frozen(eq=False, repr=False)
class Moments(Value):
    """Number, mean and sum of squared differences from the mean; ``total`` is exact for whole numbers."""

    n: int = 0
    total: Any = 0
    mean: float = 0.0
    squares: float = 0.0

    def merge(self, other: Moments) -> Moments:
        """Those of both together (Chan, Golub and LeVeque)."""
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        delta = other.mean - self.mean
        squares = self.squares + other.squares + delta * delta * self.n * other.n / n
        return Moments(n, self.total + other.total, self.mean + delta * other.n / n, squares)

    def average(self) -> Any:
        """The mean."""
        return self.total / self.n

    def variance(self, ddof: int) -> float:
        """The variance; NaN for too few values."""
        return self.squares / (self.n - ddof) if self.n > ddof else math.nan


def moments_of(values: Sequence[Any], *, squares: bool) -> Moments:
    """The moments of a list of numbers, or of an array.

    :param squares: whether the variance is wanted.
    """
    if not len(values):
        return Moments()
    total = exact_sum(values)
    n = len(values)
    if not squares:
        return Moments(n, total)
    mean = float(total / n)
    if is_array(values):
        import numpy

        off = numpy.asarray(values, numpy.float64) - mean
        return Moments(n, total, mean, float(numpy.dot(off, off)))
    return Moments(n, total, mean, math.fsum((float(value) - mean) ** 2 for value in values))


def exact_sum(values: Any) -> Any:
    """The sum: whole numbers never overflow."""
    if not is_array(values):
        return sum(values if _ADDED.issuperset(map(type, values)) else map(python_value, values))
    if values.dtype.kind in "iub" and values.ndim == 1:
        largest = max(abs(int(values.min())), abs(int(values.max()))) if len(values) else 0
        return int(values.sum()) if largest * len(values) <= _LARGEST else sum(values.tolist())
    narrow = values.ndim == 1 and values.dtype.kind == "f" and values.dtype.itemsize < 8
    total = values.sum(axis=0, dtype=float if narrow else None)  # those of 16 bits end at 65,504
    return total.item() if total.ndim == 0 and total.dtype.kind in "fc" else total


class Totals(Compute):
    """Emits the :class:`Moments` of its partition, when it has any.

    :param value: function of a record, name of a column, or None: the records are numbers.
    """

    def __init__(self, value: Callable[[Any], Any] | None, step: str, *, squares: bool) -> None:
        self.declares = Declarations(indifferent=True, reads=(value.name,) if isinstance(value, Column) else None)
        self._value = value
        self._step = step
        self._squares = squares
        self._moments = Moments()
        self._where = ""

    def open(self, context: TaskContext) -> None:
        """Note the name, for errors."""
        self._where = context.vertex

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Add a batch."""
        try:
            values = numbers_of(batch, self._value, self._step)
            found = moments_of(values, squares=self._squares)
            if found.n:
                self._moments = self._moments.merge(found) if self._squares else self._plain(found)
        except TypeError as error:
            raise no_number(self._step, batch, self._value, error, self._where) from error

    def _plain(self, found: Moments) -> Moments:
        before = self._moments
        return Moments(before.n + found.n, before.total + found.total) if before.n else found

    def finish(self, emit: Emit) -> None:
        """One value."""
        if self._moments.n:
            emit([self._moments])


def merge_totals(one: Moments, other: Moments) -> Moments:
    """The reducer of moments without squares."""
    return Moments(one.n + other.n, one.total + other.total)


def merge_moments(one: Moments, other: Moments) -> Moments:
    """The reducer of moments."""
    return one.merge(other)


def numbers_of(batch: Batch, value: Callable[[Any], Any] | None, step: str) -> Any:
    """The numbers of a batch: an array where there is one, else a list. Missing ones of a column are left out."""
    if isinstance(value, Column):
        name = value.name
        if is_arrow(batch):
            check_columns([name], batch.schema.names, step)
            column = batch.column(name).drop_null()
            if not _is_number(column.type):
                return column.to_pylist()
            return column.to_numpy() if hasattr(column, "chunks") else column.to_numpy(zero_copy_only=False)
        if is_array(batch) and batch.dtype.names:
            check_columns([name], batch.dtype.names, step)
            return batch[name]
        with walking(batch) as walk:
            return [found for record in walk if (found := value(record)) is not None]
    if value is None:
        if is_array(batch) and batch.dtype.kind in "iufcb":
            return batch
        return list(records(batch))
    with walking(batch) as walk:
        return [value(record) for record in walk]


def _is_number(kind: Any) -> bool:
    import pyarrow.types

    return bool(pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind))


def no_number(step: str, batch: Batch, value: Any, error: TypeError, where: str) -> OperatorError:
    """The error for values that cannot be added."""
    record: Any = None
    wrong: Any = None
    for record in records(batch):
        try:
            wrong = record if value is None else value(record)
            if wrong is not None or not isinstance(value, Column):
                0 + wrong
        except Exception:
            break
    if value is None:
        of, remedy = "", f"say which number of a record is meant: {step}(lambda record: ...) or {step}('column')"
    else:
        of, remedy = (
            f", {shown(value)} of {short(record)},",
            "name another column, or give a function that makes numbers",
        )
    return OperatorError(
        f"{step}: {short(wrong)}{of} is no number: {error}",
        why=f"{step} adds numbers, and this is {kind_of(wrong)}",
        remedy=remedy,
        where=where,
        details={"record": short(record)},
    )
