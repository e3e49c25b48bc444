"""The ends of graphs: values, whole sets, functions, files, cached partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from twister2.graph import walking
from twister2.spec.batch import Batch, n_bytes
from twister2.spec.data import Writer, WriteRequest
from twister2.spec.tasks import Sink, TaskContext

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


class KeepNumbered(Sink):
    """Keeps wrapped batches (see :class:`~twister2_tset.partials.Number`) of all partitions.

    :param limit: most records. :param refuse: makes the error when there are more.
    """

    def __init__(self, limit: int, refuse: Callable[[int], Exception]) -> None:
        self._limit = limit
        self._refuse = refuse
        self._records = 0
        self._size = 0
        self._parts: list[tuple[int, int, list[Any]]] = []
        self._reservation: Reservation | None = None

    def open(self, context: TaskContext) -> None:
        """Open a reservation for what is kept."""
        self._reservation = context.memory.reserve(context.vertex)

    def write(self, batch: Batch, edge: str) -> None:
        """Take wrapped batches."""
        for part in batch:
            self._records += len(part[2])
            self._size += n_bytes(part[2])
            if self._records > self._limit:
                raise self._refuse(self._records)
            self._parts.append(part)
        if self._reservation is not None:
            self._reservation.resize(self._size)

    def output(self) -> list[tuple[int, int, list[Any]]]:
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
