"""The ends of graphs: values, whole sets, functions, files, cached partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from twister2.graph import walking
from twister2.spec.batch import Batch, n_bytes, n_records
from twister2.spec.data import Writer, WriteRequest
from twister2.spec.errors import ResultError
from twister2.spec.tasks import Sink, TaskContext
from twister2_tset.functions import bound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twister2.spec.memory import Reservation


@attrs.frozen
class Value:
    """A value that may be None, told from no value."""

    value: Any


class KeepValue(Sink):
    """Keeps the one value that an operator delivers."""

    def __init__(self) -> None:
        self._value: Value | None = None

    def write(self, batch: Batch, edge: str) -> None:
        """Take the batch of one record."""
        self._value = Value(batch[0])

    def output(self) -> Value | None:
        """The value, or None when none came."""
        return self._value


@attrs.frozen
class Guard:
    """The most that an action brings to every worker.

    :ivar records, size: records and bytes. :ivar title, where: of the action, and of the set.
    """

    records: int
    size: int
    step: str
    title: str
    where: str

    def check(self, records: int, size: int) -> None:
        """:raises ResultError: it is more."""
        if records > self.records:
            raise ResultError(
                f"{self.title}: the set has more than {self.records:,} records",
                why=f"every worker would hold all of them; at least {records:,} were found",
                remedy=f"use top, reduce or write_*, filter first, or raise the guard: {self.step}(limit=...)",
                where=self.where,
            )
        if size > self.size:
            raise ResultError(
                f"{self.title}: the records take more than {self.size >> 20:,} MiB",
                why=f"every worker would hold all of them; at least {size / (1 << 20):,.0f} MiB were found",
                remedy=f"use top, reduce or write_*, filter first, or raise the guard: {self.step}(limit_mb=...)",
                where=self.where,
            )


class KeepNumbered(Sink):
    """Keeps wrapped batches (see :class:`~twister2_tset.partials.Number`) of all partitions."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._records = 0
        self._size = 0
        self._parts: list[tuple[int, int, Any]] = []
        self._reservation: Reservation | None = None

    def open(self, context: TaskContext) -> None:
        """Open a reservation for what is kept."""
        self._reservation = context.memory.reserve(context.vertex)

    def write(self, batch: Batch, edge: str) -> None:
        """Take wrapped batches."""
        for part in batch:
            self._records += n_records(part[2])
            self._size += n_bytes(part[2])
            self._guard.check(self._records, self._size)
            self._parts.append(part)
        if self._reservation is not None:
            self._reservation.resize(self._size)

    def output(self) -> list[tuple[int, int, Any]]:
        """The wrapped batches in order of partition and number."""
        return sorted(self._parts, key=lambda part: part[:2])

    def close(self) -> None:
        """The records belong to the caller from now on."""
        if self._reservation is not None:
            self._reservation.release()


class ForEach(Sink):
    """Calls a function for every record."""

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function = function

    def open(self, context: TaskContext) -> None:
        """Give the function its context, when it asks for it."""
        self._function = bound(self._function, context)

    def write(self, batch: Batch, edge: str) -> None:
        """Call it for the records of a batch; an error carries the record."""
        function = self._function
        with walking(batch) as walk:
            for record in walk:
                function(record)


class Discard(Sink):
    """Takes everything and keeps nothing."""

    def write(self, batch: Batch, edge: str) -> None:
        """Nothing."""


class WriteFiles(Sink):
    """Writes one task's part through a data backend, in two phases."""

    def __init__(self, plugin: str, uri: str, form: str, options: Mapping[str, Any]) -> None:
        self._plugin = plugin
        self._uri = uri
        self._form = form
        self._options = options
        self._context: TaskContext | None = None
        self._writer: Writer | None = None

    def open(self, context: TaskContext) -> None:
        """Open the writer."""
        self._context = context
        self._writer = self._backend().create_writer(self._request())

    def write(self, batch: Batch, edge: str) -> None:
        """Write a batch."""
        self._opened().write(batch)

    def prepare(self, checkpoint: int) -> list[Any]:
        """Make durable what was written."""
        return self._opened().prepare(checkpoint)

    def commit(self, committables: list[Any]) -> None:
        """Put the parts of all tasks in place."""
        self._backend().commit(self._request(), committables)

    def abort(self) -> None:
        """Throw away what was not prepared."""
        if self._writer is not None:
            self._writer.abort()

    def close(self) -> None:
        """Close the writer."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _opened(self) -> Writer:
        if self._writer is None:
            raise RuntimeError("write before open")
        return self._writer

    def _here(self) -> TaskContext:
        if self._context is None:
            raise RuntimeError("used before open")
        return self._context

    def _backend(self) -> Any:
        return self._here().backend("data", self._plugin)

    def _request(self) -> WriteRequest:
        here = self._here()
        return WriteRequest(
            uri=self._uri,
            format=self._form,
            task=here.index,
            n_tasks=here.parallelism,
            attempt=here.attempt,
            key=f"{here.job_id}/{here.step}/{here.vertex}",
            options=self._options,
        )


def flattened(parts: Sequence[tuple[int, int, list[Any]]]) -> list[Any]:
    """All records of wrapped batches, in order."""
    return [record for _, _, chunk in parts for record in chunk]
