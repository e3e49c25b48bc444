"""Tasks that hold what they are given until its end, in memory or on disk, and then give their results bit by bit."""

from __future__ import annotations

from abc import abstractmethod
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from twister2.graph.stored import StoredPartition
from twister2.spec.batch import Batch, n_records
from twister2.spec.tasks import Compute, Emit, TaskContext
from twister2_tset.nodes import Met

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OUT_RECORDS = 4096
"""Records of one batch of results."""


class Spool:
    """Batches in order of arrival, counted in the memory budget, on disk once that gets short.

    :param name: the holder, for messages.
    """

    def __init__(self, context: TaskContext, name: str) -> None:
        self._partition = StoredPartition(context.memory, f"{context.vertex} {context.index}: {name}", "memory")

    def add(self, batch: Batch) -> None:
        """Hold one more batch."""
        if n_records(batch):
            self._partition.add(batch)

    @property
    def n_records(self) -> int:
        """Records held."""
        return self._partition.n_records

    def batches(self) -> Iterator[Batch]:
        """All batches, as often as wanted."""
        return self._partition.batches()

    def records(self) -> Iterator[Any]:
        """All records, as often as wanted."""
        return self._partition.records()

    def close(self) -> None:
        """Forget them."""
        self._partition.close()


class Holding(Compute):
    """Base of the tasks that need the whole partition before they give anything."""

    def __init__(self) -> None:
        self._spools: dict[str, Spool] = {}
        self._context: TaskContext | None = None

    @property
    def here(self) -> TaskContext:
        """Where the task is."""
        assert self._context is not None
        return self._context

    def open(self, context: TaskContext) -> None:
        """Note where it is."""
        self._context = context

    def spool(self, name: str = "held") -> Spool:
        """The spool of a name; made when it is first asked for."""
        if name not in self._spools:
            self._spools[name] = Spool(self.here, name)
        return self._spools[name]

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hold a batch."""
        self.spool().add(batch)

    def finish(self, emit: Emit) -> Iterator[Batch]:
        """The results in batches, made as they are taken."""
        return in_batches(self.results())

    @abstractmethod
    def results(self) -> Iterator[Any]:
        """The results, from what is held."""

    def close(self) -> None:
        """Give everything back."""
        for spool in self._spools.values():
            spool.close()


class Meeting(Holding, Met):
    """Base of the tasks with several edges; a spool for each."""

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hold a batch."""
        self.spool(self.labels[edge]).add(batch)


def in_batches(results: Iterable[Any], size: int = OUT_RECORDS) -> Iterator[Batch]:
    """Records in lists of ``size``."""
    walk = iter(results)
    for first in walk:
        yield [first, *islice(walk, size - 1)]


class CountPlaced(Compute):
    """Emits ``(partition, number of records)``."""

    def __init__(self) -> None:
        self._count = self._index = 0

    def open(self, context: TaskContext) -> None:
        """Note the partition."""
        self._index = context.index

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Count a batch."""
        self._count += n_records(batch)

    def finish(self, emit: Emit) -> None:
        """One pair."""
        emit([(self._index, self._count)])


def first_number(counts: Iterable[tuple[int, int]], index: int) -> int:
    """How many records lie before a partition."""
    return sum(count for partition, count in counts if partition < index)


class Routing(Meeting):
    """Pairs ``(partition of the left that has the record of the same number, record)``.

    Edges: ``records`` (direct), ``left`` and ``right`` (counts of partitions, everywhere).
    """

    def __init__(self, check: Any) -> None:
        super().__init__()
        self._check = check

    def results(self) -> Iterator[Any]:
        """See :meth:`Holding.results`. What is beyond the end of the left is left out."""
        right = list(self.spool("right").records())
        left = sorted(self.spool("left").records())
        self._check(sum(count for _, count in left), sum(count for _, count in right))
        number = first_number(right, self.here.index)
        walk = self.spool("records").records()
        end = 0
        for partition, count in left:
            end += count
            for record in islice(walk, max(0, end - number)):
                number += 1
                yield partition, record


class Zipping(Meeting):
    """Pairs of records of two sides in the same order. Edges: ``left`` (direct), ``right`` (routed, in order)."""

    def results(self) -> Iterator[Any]:
        """See :meth:`Holding.results`."""
        rights = (record for _, record in self.spool("right").records())
        return zip(self.spool("left").records(), rights, strict=False)


class Gathered(Holding):
    """Pairs (partition, record) of numbered batches (see :class:`~twister2_tset.partials.Number`), by partition."""

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hold wrapped batches by partition; those of one partition come in order."""
        for partition, _, chunk in batch:
            self.spool(f"partition {partition}").add(chunk)

    def results(self) -> Iterator[Any]:
        """See :meth:`Holding.results`."""
        spools = sorted((int(name.rpartition(" ")[2]), spool) for name, spool in self._spools.items())
        return chain.from_iterable(((index, record) for record in spool.records()) for index, spool in spools)
