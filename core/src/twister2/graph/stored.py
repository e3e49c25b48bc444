"""Stored sets: what a run leaves in place on the workers, for later graphs.

A :class:`Stored` is a handle, made on every worker by :meth:`Graph.keep <twister2.graph.Graph.keep>`. A run that
succeeds on a worker fills it there, as a whole; a run that fails leaves what was in it. Where its partitions lie is
known from the plan, so that later graphs are placed there without asking anybody.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from twister2.spec.batch import n_bytes, n_records, records
from twister2.spec.errors import GraphError, MemoryBudgetError, UsageError
from twister2.spec.stored import Partition
from twister2.spec.tasks import END, EndOfData, Sink, Source, TaskContext
from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twister2.spec.batch import Batch
    from twister2.spec.memory import MemoryService, SpillFile

Level: TypeAlias = Literal["memory", "disk"]
LEVELS: tuple[Level, ...] = ("memory", "disk")


class StoredPartition(Partition):
    """In memory, counted in its budget, and on disk once that gets short.

    :param name: the holder, for messages. :param level: ``"disk"``: written at once.
    """

    def __init__(self, memory: MemoryService, name: str, level: Level) -> None:
        self.n_records = self.n_bytes = 0
        self._name, self._memory, self._level = name, memory, level
        self._room = memory.reserve(name, revoke=self._revoke)
        self._file: SpillFile | None = None
        self._here: list[Batch] = []
        """What came after what is in the file."""
        self._closed = False

    def add(self, batch: Batch) -> None:
        """Keep one more batch.

        :raises MemoryBudgetError, SpillError: there is room neither in memory nor on disk.
        """
        size = n_bytes(batch)
        self.n_records += n_records(batch)
        self.n_bytes += size
        if self._level == "memory":
            try:
                self._room.grow(size)
            except MemoryBudgetError:
                self._revoke(0)
            else:
                self._here.append(batch)
                return
        self._on_disk().append(batch)

    def batches(self) -> Iterator[Batch]:
        """See :class:`Partition`. What goes to disk meanwhile is read there."""
        given = 0
        while True:
            if self._closed:
                raise UsageError(
                    f"'{self._name}' holds nothing any more",
                    why="the stored set was cleared, closed or filled anew while or before it was read",
                    remedy="read it before that, or keep the set again",
                )
            written = 0 if self._file is None else len(self._file)
            if given < written:
                assert self._file is not None
                for batch in islice(self._file, given, written):
                    given += 1
                    yield batch
            elif given - written < len(self._here):
                given += 1
                yield self._here[given - 1 - written]
            else:
                return

    def records(self) -> Iterator[Any]:
        for batch in self.batches():
            yield from records(batch)

    def close(self) -> None:
        """Forget everything, and give back memory and disk. Idempotent."""
        self._closed = True
        self._here = []
        if self._file is not None:
            self._file.close()
            self._file = None
        self._room.release()

    def _revoke(self, wanted: int) -> int:
        if not self._here:
            return 0
        file = self._on_disk()
        for batch in self._here:
            file.append(batch)
        self._here = []
        freed = self._room.size
        self._room.resize(0)
        return freed

    def _on_disk(self) -> SpillFile:
        if self._file is None:
            self._file = self._memory.scratch(self._name).file()
        return self._file


class Stored:
    """Partitions kept on the workers: a graph's output that other graphs take as input.

    :ivar name: for plans and messages. :ivar level: ``"memory"`` (to disk only when memory is short) or ``"disk"``.
    """

    def __init__(self, name: str, level: Level = "memory") -> None:
        self._local: dict[int, StoredPartition] = {}
        if level not in LEVELS:
            raise UsageError(
                f"stored set {name!r} has level {level!r}",
                why=f"the levels are: {', '.join(LEVELS)}",
                remedy="give one of them",
            )
        self.name = name
        self.level: Level = level
        self.layout = 0
        """Grows when its records lie otherwise than before: plans that read it are made anew."""
        self.partitioned: tuple[str, ...] | None = None
        """How its records lie, as :attr:`~twister2.spec.declarations.Declarations.partitioned`."""
        self.n_bytes: int | None = None
        """Of all partitions on all workers; None as long as no run has asked for it."""
        self.schema: Any = None
        """Of its rows, also when there are none, as :attr:`~twister2.spec.declarations.Declarations.schema`."""
        self._workers: tuple[int, ...] | None = None
        self._closed = False

    def __repr__(self) -> str:
        what = "closed" if self._closed else "empty" if self._workers is None else f"{len(self._workers)} partitions"
        return f"<Stored {self.name!r}: {what}>"

    @property
    def filled(self) -> bool:
        """Whether a run has filled it."""
        return self._workers is not None

    @property
    def closed(self) -> bool:
        """Whether it was closed: nothing can be kept in it any more."""
        return self._closed

    @property
    def workers(self) -> tuple[int, ...]:
        """Worker id of each partition; equal on all workers.

        :raises UsageError: nothing was kept in it, or it is closed.
        """
        if self._workers is None:
            raise UsageError(
                f"there is nothing in the stored set {self.name!r}",
                why="it is closed"
                if self._closed
                else "no run of a graph that keeps it has ended yet, or it was cleared",
                remedy="keep the set again, in another Stored" if self._closed else "run the graph that keeps it first",
            )
        return self._workers

    @property
    def parallelism(self) -> int:
        """Number of partitions; raises as :attr:`workers`."""
        return len(self.workers)

    def local(self) -> Mapping[int, Partition]:
        """The partitions on this worker by index; raises as :attr:`workers`."""
        return {} if not self.workers else dict(self._local)

    def partition(self, index: int) -> Partition:
        """A partition that lies on this worker; raises as :attr:`workers`.

        :raises GraphError: it lies on another one.
        """
        lies_on = self.workers
        if index not in self._local:
            raise GraphError(
                f"partition {index} of the stored set {self.name!r} is not on this worker",
                why=f"its partitions lie on the workers {list(lies_on)}",
                remedy="leave the placement of vertices that read a stored set to the system",
            )
        return self._local[index]

    def here(self) -> Partition:
        """The one partition on this worker, of a set that has one on every worker; raises as :attr:`workers`.

        :raises GraphError: there is none, or there are several.
        """
        self.need_one_each(max(self.workers) + 1)
        return next(iter(self._local.values()))

    def need_one_each(self, n_workers: int) -> None:
        """Check that there is one partition on each of the workers.

        :raises GraphError: there is not.
        """
        if sorted(self.workers) != list(range(n_workers)):
            raise GraphError(
                f"the stored set {self.name!r} is to be read as a whole on each of {n_workers} workers",
                why=f"that needs one partition on each, all with the same records; it has {len(self.workers)}, on the "
                f"workers {list(self.workers)}",
                remedy='keep it behind "net.broadcast" or "net.allreduce", with one task on each worker',
            )

    def records(self) -> Iterator[Any]:
        """The records on this worker, by partition; raises as :attr:`workers`."""
        self.workers  # noqa: B018 - the check
        for index in sorted(self._local):
            yield from self._local[index].records()

    def clear(self) -> None:
        """Forget the records on this worker and what they took; the next run that keeps the set fills it again."""
        for partition in self._local.values():
            partition.close()
        self._local, self._workers = {}, None

    def close(self) -> None:
        """Forget them for good. Idempotent."""
        self.clear()
        self._closed = True

    def __del__(self) -> None:
        self.clear()  # the memory service knows the partitions: they do not go with the last reference to this

    # -- for runs ------------------------------------------------------------------------------------------------------

    def fill(
        self,
        workers: tuple[int, ...],
        local: Mapping[int, StoredPartition],
        partitioned: tuple[str, ...] | None = None,
        schema: Any = None,
    ) -> None:
        """Take in what a run has kept, in place of what was there."""
        before = self._workers, self.partitioned, self.schema
        self.clear()
        if (workers, partitioned, schema) != before:
            self.layout += 1
        self._workers, self._local = workers, dict(local)
        self.partitioned, self.schema, self.n_bytes = partitioned, schema, None

    def check_open(self) -> None:
        """:raises UsageError: it is closed."""
        if self._closed:
            raise UsageError(
                f"the stored set {self.name!r} is closed",
                why="close() was called, or the attempt that it belongs to has ended",
                remedy="keep the set again, in another Stored",
            )


class Keeping(Sink):
    """Keeps a partition; its output is the partition."""

    two_phase = False

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._partition: StoredPartition | None = None
        self._given = False

    def open(self, context: TaskContext) -> None:
        """Open the reservation."""
        stored = self._stored
        stored.check_open()
        self._partition = StoredPartition(context.memory, f"{stored.name} {context.index}", stored.level)

    def write(self, batch: Batch, edge: str) -> None:
        """Keep a batch."""
        assert self._partition is not None
        if n_records(batch):
            self._partition.add(batch)

    def output(self) -> StoredPartition:
        """The partition, which is the receiver's from now on."""
        assert self._partition is not None
        self._given = True
        return self._partition

    def close(self) -> None:
        """Give everything back unless it was handed out."""
        if self._partition is not None and not self._given:
            self._partition.close()


class StoredSource(Source):
    """The batches of a partition that lies on this worker."""

    def __init__(self, partition: Partition) -> None:
        self._batches = partition.batches()

    def poll(self) -> Batch | EndOfData:
        """The next batch."""
        return next(self._batches, END)


@attrs.frozen(eq=False, repr=False)
class Given(Value):
    """A named input: a partition of a stored set for each task of a vertex.

    :ivar whole: each task gets the one partition on its worker; else task ``i`` gets partition ``i``.
    """

    stored: Stored
    whole: bool = False

    def __call__(self, index: int) -> Partition:
        return self.stored.here() if self.whole else self.stored.partition(index)
