"""The narrow steps: each batch is handled by itself, in one tight loop, so that chains of them run as one task.

A step makes a list per batch: batches are small enough for the processor's cache, and an error can name its record.
"""

from __future__ import annotations

from abc import abstractmethod
from operator import length_hint
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from twister2.graph import walking
from twister2.spec.batch import Batch, is_array, is_arrow, records, text_block
from twister2.spec.declarations import Declarations
from twister2.spec.errors import OperatorError, UserCodeError
from twister2.spec.tasks import Compute, Emit, TaskContext
from twister2_tset.columns import same
from twister2_tset.forms import ARRAY, SAME, TABLE, UNKNOWN, WHATEVER
from twister2_tset.functions import bound
from twister2_tset.problems import kind_of, short
from twister2_tset.where import line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

BatchForm = Literal["any", "list", "numpy", "arrow"]

_GIVEN: Final[Mapping[BatchForm, str]] = {"any": WHATEVER, "list": UNKNOWN, "numpy": ARRAY, "arrow": TABLE}


class RecordStep(Compute):
    """Base of the steps that apply a function of the user's to every record."""

    narrow: ClassVar[bool] = True
    declares: ClassVar[Declarations] = Declarations(by_record=True)

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def open(self, context: TaskContext) -> None:
        """Give the function its context, when it asks for it."""
        self.function = bound(self.function, context)

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Apply the function to each record; an error carries the record."""
        with walking(batch) as walk:
            result = self.apply(walk)
        emit(result)

    @abstractmethod
    def apply(self, walk: Iterator[Any]) -> list[Any]:
        """The results for the records of one batch."""


class Map(RecordStep):
    """One result per record."""

    declares: ClassVar[Declarations] = Declarations(never_more=True, by_record=True)

    def apply(self, walk: Iterator[Any]) -> list[Any]:
        """All results."""
        return results(self.function, walk)


class MapToTuple(RecordStep):
    """One (key, value) pair per record."""

    declares: ClassVar[Declarations] = Declarations(never_more=True, by_record=True)

    def apply(self, walk: Iterator[Any]) -> list[Any]:
        """All pairs; the first of a batch is looked at here, the others by the keyed operator behind."""
        pairs = results(self.function, walk)
        if pairs and not (isinstance(pairs[0], tuple) and len(pairs[0]) == 2):
            raise OperatorError(
                f"the function of map_to_tuple returned {short(pairs[0])}, which is no (key, value) pair",
                why="keyed operations need a tuple of two: the key and the value",
                remedy="return (key, value)",
            )
        return pairs


class Filter(RecordStep):
    """The records for which the function is true."""

    declares: ClassVar[Declarations] = Declarations(never_more=True, keeps_keys=True, schema=same, by_record=True)

    def apply(self, walk: Iterator[Any]) -> list[Any]:
        """Those of one batch."""
        predicate = self.function
        return [record for record in walk if predicate(record)]


class FlatMap(RecordStep):
    """All items of what the function returns."""

    function: Callable[[Any], Iterable[Any]]

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """As any step; a text is split at once, because a newline is white space like any other to ``str.split``."""
        text = text_block(batch) if self.function is str.split else None
        if text is None:
            super().process(batch, emit, edge)
        else:
            emit(text.split())

    def apply(self, walk: Iterator[Any]) -> list[Any]:
        """All items for one batch."""
        function = self.function
        items: list[Any] = []
        extend = items.extend
        for record in walk:
            part = function(record)
            try:
                extend(part)
            except TypeError as error:
                if hasattr(type(part), "__iter__") or hasattr(type(part), "__getitem__"):
                    raise
                raise no_iterable(function, part) from error
        return items


def results(function: Callable[[Any], Any], walk: Iterator[Any]) -> list[Any]:
    """``function(record)`` for all records.

    ``map`` takes a StopIteration of the function for the end of the records; a comprehension lets it out.
    """
    if isinstance(function, FunctionType):
        return [function(record) for record in walk]
    expected = length_hint(walk)
    found = list(map(function, walk))  # the faster of the two for what is written in C
    if len(found) != expected:
        raise StopIteration(f"{kind_of(function)} raised it for this record")
    return found


def no_iterable(function: Callable[[Any], Any], part: Any, step: str = "flat_map") -> UserCodeError:
    """The error for a function of flat_map that returned a single thing."""
    one = step.removeprefix("flat_")
    return UserCodeError(
        f"the function of {step} returned {short(part)}, {kind_of(part)}, which is not iterable",
        why=f"{step} takes all items of what the function returns: it must return an iterable",
        remedy=f"return a list, a tuple or a generator of results, or use {one} for one result per record",
        where=line_of(function),
    )


class MapBatches(Compute):
    """A function of whole batches.

    :param form: what the function wants: batches as they come, lists, numpy arrays or Arrow record batches.
    :param releases_gil: the function works outside the GIL, so that the executor may run it in its pool.
    """

    narrow: ClassVar[bool] = True

    def __init__(self, function: Callable[..., Any], form: BatchForm, releases_gil: bool) -> None:
        self.function = function
        self.form = form
        self.releases_gil = releases_gil

    @property
    def gives(self) -> str:
        """Batches such as it takes, as far as anybody knows."""
        return _GIVEN[self.form]

    def open(self, context: TaskContext) -> None:
        """Give the function its context, when it asks for it."""
        self.function = bound(self.function, context)

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hand over one batch."""
        result = self.function(as_form(batch, self.form))
        if result is None:
            return
        if not (isinstance(result, list) or is_array(result) or is_arrow(result) or _is_lazy(result)):
            raise OperatorError(
                f"the function of map_batches returned {kind_of(result)}",
                why="a batch is a list, a numpy array whose first axis counts records, or an Arrow record batch",
                remedy="return one of these, or None for nothing",
            )
        if is_array(result) and result.ndim == 0:
            raise OperatorError(
                "the function of map_batches returned an array without axes",
                why="the first axis of an array counts its records",
                remedy="return result.reshape(1) for a single record",
            )
        emit(result)


def as_form(batch: Batch, form: BatchForm) -> Batch:
    """The batch in the form asked for."""
    if form == "any":
        return list(batch) if isinstance(batch, (tuple, range)) else batch
    if form == "list":
        return batch if type(batch) is list else list(records(batch))
    if form == "numpy":
        return _as_array(batch)
    return _as_arrow(batch)


def _is_lazy(batch: Any) -> bool:
    """Whether it is a lazy sequence, such as the lines of a text: what a function is given it may return."""
    return hasattr(type(batch), "__t2_records__")


def _as_array(batch: Batch) -> Any:
    import numpy

    if is_array(batch):
        return batch
    if not is_arrow(batch):
        return numpy.asarray(list(batch))
    columns = [batch.column(name) for name in batch.schema.names]
    arrays = [column.to_numpy(zero_copy_only=False) if _is_plain(column) else column.to_numpy() for column in columns]
    if len(arrays) == 1:
        return arrays[0]
    types = [(name, array.dtype) for name, array in zip(batch.schema.names, arrays, strict=True)]
    result = numpy.empty(batch.num_rows, dtype=types)
    for name, array in zip(batch.schema.names, arrays, strict=True):
        result[name] = array
    return result


def _is_plain(column: Any) -> bool:
    return not hasattr(column, "chunks")


def _as_arrow(batch: Batch) -> Any:
    import pyarrow

    if is_arrow(batch):
        return batch
    if is_array(batch):
        if batch.dtype.names:
            return pyarrow.RecordBatch.from_pydict({name: pyarrow.array(batch[name]) for name in batch.dtype.names})
        columns = [batch] if batch.ndim == 1 else [batch[:, index] for index in range(batch.shape[1])]
        return pyarrow.RecordBatch.from_pydict({f"c{i}": pyarrow.array(column) for i, column in enumerate(columns)})
    rows = list(batch)
    if rows and isinstance(rows[0], dict):
        names = dict.fromkeys(name for row in rows for name in row)  # not only those of the first
        return pyarrow.RecordBatch.from_pydict({name: [row.get(name) for row in rows] for name in names})
    if rows and isinstance(rows[0], tuple):
        return pyarrow.RecordBatch.from_pydict({f"c{i}": list(c) for i, c in enumerate(zip(*rows, strict=True))})
    return pyarrow.RecordBatch.from_pydict({"c0": rows})


class PassOn(Compute):
    """The target of an exchange: hands on what the operator delivered."""

    narrow: ClassVar[bool] = True
    gives: ClassVar[str] = SAME
    declares: ClassVar[Declarations] = Declarations(never_more=True, keeps_keys=True, passes_on=True, schema=same)

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hand on."""
        emit(batch)


class Apart(PassOn):
    """The same, as a task of its own."""

    narrow: ClassVar[bool] = False
