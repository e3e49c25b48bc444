"""Base classes of tasks that say what comes to them: records one by one, keys with values, both sides of a join.

The classes of :mod:`twister2.spec.tasks` handle batches, which is where speed is. These are for tasks that look at one
record (or one key) at a time: they walk over the batches, check once per batch that what came has the shape that their
operator gives, put what is emitted into batches, and name the record when the user's method raises::

    class Orders(JoinCompute[int, str, str]):
        def joined(self, key, left, right, emit):
            emit((key, f"{left} for {right}"))

    graph.connect(["orders", "names"], graph.add_compute("orders of", lambda index: Orders()), "net.join")
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from twister2.graph.records import shorten, walking
from twister2.spec.batch import n_records
from twister2.spec.batch import records as records_of
from twister2.spec.errors import OperatorError
from twister2.spec.tasks import END, Compute, EndOfData, Sink, Source, TaskContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.batch import Batch
    from twister2.spec.tasks import Emit

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
L = TypeVar("L")
R = TypeVar("R")

BATCH = 4096
"""Records of the batches that these classes make, at most."""


class EmitRecord(Protocol):
    """How a typed task sends on: ``emit(record)``, ``emit(record, "edge")``."""

    def __call__(self, record: Any, edge: str | None = None) -> None: ...


class _Batching:
    """Collects records into batches, in order for each edge; ``with _Batching(emit) as out: out(record)``."""

    __slots__ = ("_emit", "_held")

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._held: dict[str | None, list[Any]] = {}

    def __call__(self, record: Any, edge: str | None = None) -> None:
        held = self._held.setdefault(edge, [])
        held.append(record)
        if len(held) >= BATCH:
            self._held[edge] = []
            self._emit(held, edge)

    def flush(self) -> None:
        """Emit what is held."""
        for edge, held in self._held.items():
            if held:
                self._emit(held, edge)
        self._held = {}


class RecordSource(Source, Generic[T]):
    """A source that is a generator of records, batched as they come.

    One call of :meth:`poll` takes up to :data:`BATCH` records, so that the generator should not wait for anything.
    """

    context: TaskContext | None = None
    _records: Iterator[T] | None = None  # on the class, so that those derived from it need not call its __init__

    @abstractmethod
    def records(self, context: TaskContext) -> Iterable[T]:
        """The records of this task; called once, when it is polled first."""

    def open(self, context: TaskContext) -> None:
        """Remember where the task is."""
        self.context = context

    def poll(self) -> Batch | EndOfData:
        """The next batch."""
        if self._records is None:
            assert self.context is not None, "poll comes after open"
            self._records = iter(self.records(self.context))
        return list(islice(self._records, BATCH)) or END

    def close(self) -> None:
        """Let the generator clean up."""
        end = getattr(self._records, "close", None)
        if end is not None:
            end()


class RecordCompute(Compute, Generic[T]):
    """Handles one record at a time."""

    narrow = True

    @abstractmethod
    def record(self, record: T, emit: EmitRecord) -> None:
        """Handle a record: emit any number of records."""

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Walk over the batch."""
        out, handle = _Batching(emit), self.record
        with walking(batch) as batch_records:
            for record in batch_records:
                handle(record, out)
        out.flush()


class RecordSink(Sink, Generic[T]):
    """Handles one record at a time."""

    @abstractmethod
    def record(self, record: T) -> None:
        """Handle a record."""

    def write(self, batch: Batch, edge: str) -> None:
        """Walk over the batch."""
        handle = self.record
        with walking(batch) as batch_records:
            for record in batch_records:
                handle(record)


class FunctionSink(RecordSink[T]):
    """Calls a function with every record: ``graph.add_sink("show", lambda index: FunctionSink(print))``."""

    two_phase = False

    def __init__(self, function: Callable[[T], object]) -> None:
        self._function = function

    def record(self, record: T) -> None:
        """Call it."""
        self._function(record)


class _PairCompute(Compute):
    """What comes are pairs of a key and something; their shape is looked at once per batch."""

    wants = "pairs (key, value)"
    gives = "a keyed operator"

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Walk over the batch."""
        if not n_records(batch):
            return
        first = next(iter(records_of(batch)))
        if not (isinstance(first, tuple) and len(first) == 2 and self._fits(first[1])):
            raise OperatorError(
                f"{type(self).__name__} got {shorten(first, 80)} over edge {edge!r}, where it wants {self.wants}",
                why=f"that is what {self.gives} gives",
                remedy="connect it by that operator, or use twister2.spec.tasks.Compute, which takes any batches",
            )
        out = _Batching(emit)
        with walking(batch) as pairs:
            for key, value in pairs:
                self._pair(key, value, out)
        out.flush()

    def _fits(self, value: Any) -> bool:
        return True

    def _pair(self, key: Any, value: Any, emit: EmitRecord) -> None:
        raise TypeError(f"{type(self).__name__} takes no pairs")


class KeyedReduceCompute(_PairCompute, Generic[K, V]):
    """Behind ``net.keyed_reduce`` (or whatever gives one value of each key)."""

    gives = "net.keyed_reduce"

    @abstractmethod
    def result(self, key: K, value: V, emit: EmitRecord) -> None:
        """Handle a key and what its values were reduced to."""

    def _pair(self, key: Any, value: Any, emit: EmitRecord) -> None:
        self.result(key, value, emit)


class KeyedGatherCompute(_PairCompute, Generic[K, V]):
    """Behind ``net.keyed_gather`` with ``grouped=True``.

    One that does the same with the sum (the minimum...) of the values in place of all declares that with
    ``declares = Declarations(folds="sum")``: they are then summed before they travel (rule ``combine``).
    """

    wants = "pairs (key, values)"
    gives = "net.keyed_gather(grouped=True)"

    @abstractmethod
    def group(self, key: K, values: Iterable[V], emit: EmitRecord) -> None:
        """Handle a key and all its values."""

    def _fits(self, value: Any) -> bool:
        return isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict))

    def _pair(self, key: Any, value: Any, emit: EmitRecord) -> None:
        self.group(key, value, emit)


class JoinCompute(_PairCompute, Generic[K, L, R]):
    """Behind ``net.join``. In outer joins the side that is missing is None."""

    wants = "pairs (key, (left, right))"
    gives = "net.join"

    @abstractmethod
    def joined(self, key: K, left: L, right: R, emit: EmitRecord) -> None:
        """Handle a record of each side with equal keys."""

    def _fits(self, value: Any) -> bool:
        return isinstance(value, tuple) and len(value) == 2

    def _pair(self, key: Any, value: Any, emit: EmitRecord) -> None:
        left, right = value
        self.joined(key, left, right, emit)


class ReduceCompute(Compute, Generic[V]):
    """Behind ``net.reduce`` or ``net.allreduce``, which give one value, or none when there were no records."""

    _seen = False

    @abstractmethod
    def value(self, value: V, emit: EmitRecord) -> None:
        """Handle the value."""

    def open(self, context: TaskContext) -> None:
        """Nothing has come yet."""
        self._seen = False

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Take the value out of its batch."""
        if self._seen or n_records(batch) != 1:
            raise OperatorError(
                f"{type(self).__name__} got more than one record over edge {edge!r}",
                why="net.reduce and net.allreduce give one value",
                remedy="connect it by one of them, or derive from RecordCompute",
            )
        self._seen = True
        out = _Batching(emit)
        with walking(batch) as values:
            for value in values:
                self.value(value, out)
        out.flush()


class GatherCompute(Compute, Generic[T]):
    """Behind ``net.gather`` or ``net.allgather``: everything at once, when all of it has come. It is held in memory."""

    _records: list[T]

    @abstractmethod
    def gathered(self, records: Sequence[T], emit: EmitRecord) -> None:
        """Handle all records."""

    def open(self, context: TaskContext) -> None:
        """Nothing has come yet."""
        self._records = []

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hold the records."""
        self._records.extend(records_of(batch))

    def finish(self, emit: Emit) -> None:
        """Hand them over."""
        gathered, self._records = self._records, []
        out = _Batching(emit)
        self.gathered(gathered, out)
        out.flush()
