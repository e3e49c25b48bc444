"""The sources of sets: lists, functions, files, and cached partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.spec.batch import is_array, is_arrow, n_bytes, n_records
from twister2.spec.data import Reader, ReadRequest, Split
from twister2.spec.declarations import Declarations
from twister2.spec.errors import UsageError
from twister2.spec.tasks import END, EndOfData, Source, TaskContext
from twister2.spec.values import Value
from twister2_tset.forms import form_of
from twister2_tset.problems import kind_of
from twister2_tset.report import ReadReport

if TYPE_CHECKING:
    from twister2.spec.batch import Batch

COLUMN_RECORDS = 65536
"""Rows of one batch of columns."""

BATCH_RECORDS = 4096
"""Records of one batch made from single records: small enough to stay in the processor's cache."""


def of_frame(data: Any) -> Any:
    """A data frame (of pandas, polars and others) as an Arrow table, anything else as it is.

    :raises UsageError: it gives no Arrow columns.
    """
    if is_arrow(data) or not hasattr(data, "columns"):
        return data
    arrow, error = hasattr(data, "__arrow_c_stream__"), None
    if arrow:
        import pyarrow

        index = getattr(data, "index", None)
        if type(index).__name__ == "RangeIndex" and getattr(index, "name", None) is not None:
            data = data.reset_index()  # pandas hands over each other index that has a name
        try:
            table = data.to_arrow() if hasattr(data, "to_arrow") else data  # of polars: text as it can be computed on
            return pyarrow.table(table).replace_schema_metadata()
        except (pyarrow.ArrowException, TypeError, ValueError) as raised:
            error = raised
    elif not hasattr(data, "to_dict"):
        return data
    raise UsageError(
        f"parallelize: the data frame, {kind_of(data)}, cannot be taken as columns",
        why=str(error)
        if error
        else "it does not hand over its columns (pandas does from 2.2), and to walk over it gives their names",
        remedy="give columns of one type each, as a pyarrow.Table or a data frame of today",
        where="parallelize",
    ) from error


class PartSource(Source):
    """Records ``begin`` to ``end`` of what is in memory: a sequence, a numpy array or an Arrow table, whose rows stay
    columns.
    """

    def __init__(self, data: Any, begin: int, end: int) -> None:
        self._data = data
        self._next = begin
        self._end = end
        self._most = COLUMN_RECORDS if is_array(data) or is_arrow(data) else BATCH_RECORDS

    def poll(self) -> Batch | EndOfData:
        """The next records."""
        begin, end = self._next, min(self._next + self._most, self._end)
        if begin >= end:
            return END
        self._next = end
        if not is_arrow(self._data):
            return self._data[begin:end]
        part = self._data.slice(begin, end - begin)
        return part.combine_chunks().to_batches()[0] if hasattr(part, "to_batches") else part


@attrs.frozen(eq=False, repr=False)
class Parts(Value):
    """``make(index)``: equal contiguous parts of what is in memory."""

    data: Any = attrs.field(repr=False)
    partitions: int
    narrow: ClassVar[bool] = True

    @property
    def gives(self) -> str:
        """The form of what is in memory."""
        return form_of(self.data)

    @property
    def declares(self) -> Declarations:
        """How much there is, of which columns."""
        columns = is_arrow(self.data)
        return Declarations(
            n_bytes=n_bytes(self.data),
            schema=self.data.schema if columns else None,
            with_columns=self.with_columns if columns else None,
        )

    def with_columns(self, names: tuple[str, ...]) -> Parts | None:
        """The same with these columns only."""
        if not set(names) <= set(self.data.schema.names):
            return None  # the step that names another one says so
        return attrs.evolve(self, data=self.data.select(list(names)))

    def __call__(self, index: int) -> PartSource:
        size, parts = n_records(self.data), self.partitions
        return PartSource(self.data, index * size // parts, (index + 1) * size // parts)


class FunctionSource(Source):
    """The records that ``function(index)`` yields."""

    def __init__(self, function: Callable[[int], Iterable[Any]], index: int) -> None:
        self._function = function
        self._index = index
        self._records: Iterator[Any] | None = None

    def poll(self) -> Batch | EndOfData:
        """The next records."""
        if self._records is None:
            self._records = iter(self._function(self._index))
        return list(islice(self._records, BATCH_RECORDS)) or END

    def close(self) -> None:
        """Close a generator that was not read to its end."""
        close = getattr(self._records, "close", None)
        if close is not None:
            close()


@attrs.frozen(eq=False, repr=False)
class PlannedRead(Value):
    """The splits of each task, as one worker planned them.

    :ivar skipped: inputs left out while planning. :ivar hosts: preferred hosts by task index. :ivar schema: pyarrow's,
        of what the program asked for, where it is known.
    """

    splits: tuple[tuple[Split, ...], ...]
    skipped: tuple[str, ...] = ()
    hosts: Mapping[int, tuple[str, ...]] = attrs.field(factory=dict)
    schema: Any = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes that each task reads, as far as they are known."""
        return tuple(sum(split.n_bytes for split in task) for task in self.splits)

    @property
    def n_bytes(self) -> int | None:
        """Bytes of all; None when those of a split are not known."""
        known = [split.n_bytes for task in self.splits for split in task]
        return sum(known) if all(known) else None


class FileSource(Source):
    """Reads the splits of one task through a data backend."""

    def __init__(
        self, plugin: str, request: ReadRequest, splits: Sequence[Split], report: Callable[[ReadReport], None]
    ) -> None:
        self._plugin = plugin
        self._request = request
        self._splits = splits
        self._report = report
        self._reader: Reader | None = None
        self._last: Mapping[str, float] = {}

    def open(self, context: TaskContext) -> None:
        """Open the reader."""
        self._reader = context.backend("data", self._plugin).open(self._request, self._splits)

    def poll(self) -> Batch | EndOfData | None:
        """The next batch of the reader."""
        return END if self._reader is None else self._reader.poll()

    def counters(self) -> Mapping[str, float]:
        """``records_read`` and ``bytes_read``, of decoded input."""
        read = self._last if self._reader is None else self._reader.counters()
        return {f"{name}_read": read.get(name, 0) for name in ("records", "bytes")}

    def close(self) -> None:
        """Report what was read, and close."""
        reader, self._reader = self._reader, None
        if reader is None:
            return
        try:
            read = self._last = dict(reader.counters())
            self._report(ReadReport(int(read.get("records", 0)), int(read.get("bytes", 0)), tuple(reader.skipped())))
        finally:
            reader.close()
