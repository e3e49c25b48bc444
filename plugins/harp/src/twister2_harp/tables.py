"""Collectives on tables: regroup, push, pull, rotate, aggregate; neighbour exchange.

Partitions that come from other members are the caller's own: they may be changed in place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy

from twister2.spec import patterns
from twister2.spec.collectives import Call
from twister2.spec.errors import OperatorError
from twister2_harp.rotation import Rotation
from twister2_harp.table import Table, merged, own

if TYPE_CHECKING:
    from twister2.spec.collectives import Collectives, Op
    from twister2.spec.network import Group, Network

T = TypeVar("T")
TableT = TypeVar("TableT", bound=Table)
Partitioner = Callable[[int], int]
"""From the id of a partition to a rank."""

_CENSUS = Call("reduce_scatter")


class Tables(ABC):
    """The part of a communicator that works on tables."""

    network: Network
    group: Group
    collectives: Collectives
    rank: int
    size: int

    @abstractmethod
    def alltoall(self, values: Sequence[T]) -> list[T]:
        """See :class:`~twister2_harp.communicator.Harp`."""

    @abstractmethod
    def allgather(self, value: T) -> list[T]:
        """See :class:`~twister2_harp.communicator.Harp`."""

    def op_of(self, value: Any) -> Op:
        """How values are reduced when the caller does not say: tables by their combiner, all else by ``sum``."""
        return merged if isinstance(value, Table) else "sum"

    def regroup(self, table: TableT, partitioner: Partitioner | None = None) -> TableT:
        """Every partition to the rank of its id, combined there in the order of ranks.

        :param partitioner: from id to rank; ``id % size`` when None. The same on all members.
        :returns: this rank's partitions. ``table`` stays as it is.
        """
        shares = [table.empty() for _ in range(self.size)]
        for partition, value in table.items():
            shares[self._rank_of(partition, partitioner)][partition] = value
        return self._received(table, self.alltoall(shares))

    def push(self, local: Table, into: Table, partitioner: Partitioner | None = None) -> None:
        """Send local partitions to where ``into`` has their ids, and combine them with it there.

        :param local: what is sent; stays as it is. :param into: this rank's part of the global table; changed.
        :param partitioner: where ids go that nobody has; ``id % size`` when None.
        """
        homes = self._homes(into)
        shares = [local.empty() for _ in range(self.size)]
        for partition, value in local.items():
            home = homes.get(partition)
            shares[self._rank_of(partition, partitioner) if home is None else home][partition] = value
        for share in self.alltoall(shares):
            into.merge(own(share))

    def pull(self, source: TableT, ids: Iterable[int]) -> TableT:
        """Fetch partitions of a global table.

        :param source: this rank's part of the global table. :param ids: what this rank wants, from anywhere.
        :raises OperatorError: no rank has one of the ids.
        """
        homes = self._homes(source)
        wanted: list[list[int]] = [[] for _ in range(self.size)]
        missing = []
        for partition in dict.fromkeys(ids):
            home = homes.get(partition)
            if home is None:
                missing.append(partition)
            else:
                wanted[home].append(partition)
        if missing:
            raise OperatorError(
                f"rank {self.rank} pulls partitions that nobody has: {missing[:8]}",
                why=f"the global table has {len(homes)} partitions on {self.size} ranks",
                remedy="pull ids that were pushed before, or give them a default with push",
            )
        asked = self.alltoall(wanted)
        answers = []
        for share in asked:
            answer = source.empty()
            for partition in share:
                answer[partition] = source[partition]
            answers.append(answer)
        return self._received(source, self.alltoall(answers))

    def rotate(self, table: TableT, order: Sequence[int] | None = None) -> TableT:
        """Pass the whole table on to the next rank; what came from the rank before.

        :param order: ``order[i]`` is the rank that rank i sends to, a permutation, the same on all members; the next
            rank when None.
        :returns: a new table; ``table`` must not be changed any more (its arrays may be on their way).
        """
        return self.irotate(table, order).wait()

    def irotate(self, table: TableT, order: Sequence[int] | None = None) -> Rotation[TableT]:
        """:meth:`rotate` without waiting, so that one part of a model moves while another is computed on."""
        to = list(order) if order is not None else [(rank + 1) % self.size for rank in range(self.size)]
        if sorted(to) != list(range(self.size)):
            raise OperatorError(
                f"the order of a rotation is no permutation of the {self.size} ranks: {to[:16]}",
                why="every rank sends to one rank and receives from one",
                remedy="give each rank once",
            )
        return Rotation(self.collectives, table, to)

    def aggregate(
        self, table: TableT, function: Callable[[int, Any], Any] | None = None, partitioner: Partitioner | None = None
    ) -> TableT:
        """Regroup, apply ``function(id, value)`` once to every combined partition, and give everybody the result."""
        mine = self.regroup(table, partitioner)
        if function is not None:
            for partition in list(mine):
                mine[partition] = function(partition, mine[partition])
        return self._received(table, self.allgather(mine))

    def exchange(self, values: Mapping[int, T]) -> dict[int, T]:
        """Neighbour exchange: a value to each of some ranks, whoever they are; what came, by rank.

        Nobody needs to know who sends: the numbers of messages are found first (T. Hoefler, C. Siebert, A. Lumsdaine,
        "Scalable Communication Protocols for Dynamic Sparse Data Exchange", 2010, personalised census).
        """
        counts = numpy.zeros(self.size, dtype=numpy.int64)
        for rank in values:
            if not 0 <= rank < self.size:
                raise OperatorError(
                    f"exchange: there is no rank {rank}",
                    why=f"the group has ranks 0 to {self.size - 1}",
                    remedy="give ranks of the group, not worker ids",
                )
            counts[rank] = 1
        incoming = numpy.empty(1, dtype=numpy.int64)
        self.collectives.run(_CENSUS, counts, incoming)
        request = self.collectives.start_pattern(
            "harp.exchange", "", patterns.sparse(self.rank, values, int(incoming[0]))
        )
        request.wait()
        came: dict[int, T] = request.result
        return came

    # -- how -------------------------------------------------------------------------------------------------------

    def _rank_of(self, partition: int, partitioner: Partitioner | None) -> int:
        rank = partition % self.size if partitioner is None else partitioner(partition)
        if not 0 <= rank < self.size:
            raise OperatorError(
                f"partition {partition} has no place",
                why=f"the partitioner gave {rank!r}, and the ranks are 0 to {self.size - 1}",
                remedy="let the partitioner give a rank, e.g. id % harp.size",
            )
        return rank

    def _homes(self, table: Table) -> dict[int, int]:
        """Rank of every partition of a global table."""
        homes: dict[int, int] = {}
        for rank, ids in enumerate(self.allgather(sorted(table))):
            for partition in ids:
                if homes.setdefault(partition, rank) != rank:
                    raise OperatorError(
                        f"partition {partition} is on ranks {homes[partition]} and {rank}",
                        why="a partition of a global table has one home",
                        remedy="regroup the table first",
                    )
        return homes

    def _received(self, like: TableT, shares: Iterable[Table]) -> TableT:
        result = like.empty()
        for share in shares:
            result.merge(share)
        value: Any
        for partition, value in result.items():
            if like.get(partition) is value and isinstance(value, numpy.ndarray):
                result[partition] = value.copy()  # a part that stayed here: what was given may be changed
        return own(result)  # type: ignore[return-value]
