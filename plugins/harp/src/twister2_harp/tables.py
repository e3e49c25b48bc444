"""Collectives on tables: regroup, push, pull, rotate, aggregate; neighbour exchange.

Partitions that come from other members are the caller's own: they may be changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

import numpy

from twister2.spec import patterns
from twister2.spec.errors import OperatorError
from twister2.spec.tracebacks import short
from twister2_harp.rounds import Homes, ResultRequest, aggregation, neighbour_exchange, pull, push, rotation
from twister2_harp.table import Table, apart, ids_of, merged

if TYPE_CHECKING:
    from twister2.spec.collectives import Collectives, Op
    from twister2.spec.network import Group, Network

T = TypeVar("T")
TableT = TypeVar("TableT", bound=Table)
Partitioner = Callable[[int], int]
"""From the id of a partition to a rank."""


class Tables:
    """The part of a communicator that works on tables."""

    network: Network
    group: Group
    collectives: Collectives
    rank: int
    size: int

    def op_of(self, value: Any) -> Op:
        """How values are reduced when the caller does not say: tables by their combiner, all else by ``sum``."""
        return merged if isinstance(value, Table) else "sum"

    def regroup(self, table: TableT, partitioner: Partitioner | None = None) -> TableT:
        """Every partition to the rank of its id, combined there in the order of ranks.

        :param partitioner: from id to rank; ``id % size`` when None. The same on all members.
        :returns: this rank's partitions. ``table`` stays as it is.
        """
        return self.iregroup(table, partitioner).wait()

    def iregroup(self, table: TableT, partitioner: Partitioner | None = None) -> ResultRequest[TableT]:
        """:meth:`regroup` without waiting."""
        _check_table("regroup", "table", table)
        given = ids_of(table)
        steps = patterns.alltoall(self.rank, self.size, self._shares(table, partitioner))
        return self._begin("regroup", steps, lambda came: self._whole(table, came, given))

    def push(self, local: Table, into: Table, partitioner: Partitioner | None = None) -> None:
        """Send local partitions to where ``into`` has their ids, and combine them with it there.

        :param local: what is sent; stays as it is. :param into: this rank's part of the global table; changed.
        :param partitioner: where ids go that nobody has; ``id % size`` when None.
        """
        self.ipush(local, into, partitioner).wait()

    def ipush(self, local: Table, into: Table, partitioner: Partitioner | None = None) -> ResultRequest[None]:
        """:meth:`push` without waiting: ``into`` is changed when ``test()`` says True or in ``wait()``."""
        _check_table("push", "local", local)
        _check_table("push", "into", into)
        given = ids_of(local)

        def shares(homes: Homes) -> list[Table]:
            found = [local.empty() for _ in range(self.size)]
            for partition, value in local.items():
                home = homes.get(partition)
                found[self._rank_of(partition, partitioner) if home is None else home][partition] = value
            return found

        def finish(came: Sequence[Table]) -> None:
            for share in came:
                into.merge(share)
            for partition in dict.fromkeys(partition for share in came for partition in share):
                into[partition] = apart(into[partition], given)

        return self._begin("push", push(self.rank, self.size, sorted(into), shares), finish)

    def pull(self, source: TableT, ids: Iterable[int]) -> TableT:
        """Fetch partitions of a global table.

        :param source: this rank's part of the global table. :param ids: what this rank wants, from anywhere.
        :raises OperatorError: no rank has one of the ids.
        """
        return self.ipull(source, ids).wait()

    def ipull(self, source: TableT, ids: Iterable[int]) -> ResultRequest[TableT]:
        """:meth:`pull` without waiting; what ``source`` has is read when another rank asks for it."""
        _check_table("pull", "source", source)
        given = ids_of(source)
        given_ids: object = ids  # callers need not check types
        if not isinstance(given_ids, Iterable) or isinstance(given_ids, str):
            raise OperatorError(
                f"pull: ids is {short(ids, 60)}, a {type(ids).__name__}",
                why="it fetches the partitions with these ids",
                remedy="give a list of ids, also for one of them",
            )
        asked = list(dict.fromkeys(ids))

        def wanted(homes: Homes) -> list[list[int]]:
            missing = [partition for partition in asked if partition not in homes]
            if missing:
                raise OperatorError(
                    f"rank {self.rank} pulls partitions that nobody has: {missing[:8]}",
                    why=f"the global table has {len(homes)} partitions on {self.size} ranks",
                    remedy="pull ids that were pushed before, or give them a default with push",
                )
            shares: list[list[int]] = [[] for _ in range(self.size)]
            for partition in asked:
                shares[homes[partition]].append(partition)
            return shares

        def answer(share: list[int]) -> Table:
            found = source.empty()
            for partition in share:
                found[partition] = source[partition]
            return found

        steps = pull(self.rank, self.size, sorted(source), wanted, answer)
        return self._begin("pull", steps, lambda came: self._whole(source, came, given))

    def rotate(self, table: TableT, order: Sequence[int] | None = None) -> TableT:
        """Pass the whole table on to the next rank; what came from the rank before.

        :param order: ``order[i]`` is the rank that rank i sends to, a permutation, the same on all members; the next
            rank when None.
        :returns: a new table; ``table`` must not be changed any more (its arrays may be on their way).
        """
        return self.irotate(table, order).wait()

    def irotate(self, table: TableT, order: Sequence[int] | None = None) -> ResultRequest[TableT]:
        """:meth:`rotate` without waiting, so that one part of a model moves while another is computed on."""
        _check_table("rotate", "table", table)
        to = list(order) if order is not None else [(rank + 1) % self.size for rank in range(self.size)]
        if sorted(to) != list(range(self.size)):
            raise OperatorError(
                f"the order of a rotation is no permutation of the {self.size} ranks: {to[:16]}",
                why="every rank sends to one rank and receives from one",
                remedy="give each rank once",
            )
        steps = rotation(self.rank, table, to[self.rank], to.index(self.rank))
        return self._begin("rotate", steps, apart, f"order={crc32(repr(to).encode()):08x}")

    def aggregate(
        self, table: TableT, function: Callable[[int, Any], Any] | None = None, partitioner: Partitioner | None = None
    ) -> TableT:
        """Regroup, apply ``function(id, value)`` once to every combined partition, and give everybody the result.

        :param function: makes no collective call.
        """
        return self.iaggregate(table, function, partitioner).wait()

    def iaggregate(
        self, table: TableT, function: Callable[[int, Any], Any] | None = None, partitioner: Partitioner | None = None
    ) -> ResultRequest[TableT]:
        """:meth:`aggregate` without waiting; whatever call this rank is in by then calls the function."""
        _check_table("aggregate", "table", table)
        given = ids_of(table)

        def combined(came: Sequence[Table]) -> Table:
            mine = self._whole(table, came, given)
            if function is not None:
                for partition in list(mine):
                    mine[partition] = function(partition, mine[partition])
                given.update(ids_of(mine))  # the function may have given what somebody keeps
            return mine

        steps = aggregation(self.rank, self.size, self._shares(table, partitioner), combined)
        return self._begin("aggregate", steps, lambda shares: self._whole(table, shares, given))

    def exchange(self, values: Mapping[int, T]) -> dict[int, T]:
        """Neighbour exchange: a value to each of some ranks, whoever they are; what came, by rank.

        Nobody needs to know who sends: the numbers of messages are found first (T. Hoefler, C. Siebert, A. Lumsdaine,
        "Scalable Communication Protocols for Dynamic Sparse Data Exchange", 2010, personalised census).
        """
        return self.iexchange(values).wait()

    def iexchange(self, values: Mapping[int, T]) -> ResultRequest[dict[int, T]]:
        """:meth:`exchange` without waiting."""
        if not isinstance(values, Mapping):
            raise OperatorError(
                f"exchange: values is {short(values, 60)}, a {type(values).__name__}",
                why="it sends a value to each of some ranks",
                remedy="give a dict from rank to value: harp.exchange({1: value})",
            )
        rank: Any
        for rank in values:
            if not (isinstance(rank, (int, numpy.integer)) and 0 <= rank < self.size):
                raise OperatorError(
                    f"exchange: there is no rank {rank!r}",
                    why=f"the group has ranks 0 to {self.size - 1}",
                    remedy="give ranks of the group, not worker ids",
                )
        steps = neighbour_exchange(self.rank, self.size, values)
        return self._begin("exchange", steps, lambda came: self._own(came, values))

    # -- how -------------------------------------------------------------------------------------------------------

    def _shares(self, table: Table, partitioner: Partitioner | None) -> list[Table]:
        """What each rank gets of a table."""
        shares = [table.empty() for _ in range(self.size)]
        for partition, value in table.items():
            shares[self._rank_of(partition, partitioner)][partition] = value
        return shares

    def _rank_of(self, partition: int, partitioner: Partitioner | None) -> int:
        rank: Any = partition % self.size if partitioner is None else partitioner(partition)
        if not (isinstance(rank, (int, numpy.integer)) and 0 <= rank < self.size):
            raise OperatorError(
                f"partition {partition} has no place",
                why=f"the partitioner gave {rank!r}, and the ranks are 0 to {self.size - 1}",
                remedy="let the partitioner give a rank, e.g. id % harp.size",
            )
        return int(rank)

    def _own(self, result: Any, given: Any) -> Any:
        """The tables of a result, or in its list or dict, apart from what was given."""
        if isinstance(result, Table):
            return apart(result, ids_of(given))
        parts = result if type(result) is list else result.values() if type(result) is dict else ()
        if not any(isinstance(part, Table) for part in parts):
            return result
        ids = ids_of(given)
        if type(result) is list:
            return [apart(part, ids) if isinstance(part, Table) else part for part in result]
        return {key: apart(part, ids) if isinstance(part, Table) else part for key, part in result.items()}

    def _begin(self, name: str, steps: patterns.Steps, finish: Callable[[Any], T], shape: str = "") -> ResultRequest[T]:
        return ResultRequest(
            lambda guarded: self.collectives.start_pattern(f"harp.{name}", shape, guarded(steps)), finish
        )

    def _whole(self, like: TableT, shares: Iterable[Table], given: set[int]) -> TableT:
        """What came in shares, as one table of the caller's own."""
        result = like.empty()
        for share in shares:
            result.merge(share)
        return apart(result, given)  # type: ignore[no-any-return]


def _check_table(call: str, name: str, given: object) -> None:
    """
    :raises OperatorError: it is no table.
    """
    if not isinstance(given, Table):
        made = "Table(partitions, combiner='sum')"
        raise OperatorError(
            f"{call}: {name} is {short(given, 60)}, a {type(given).__name__}, not a Table",
            why="a table knows how partitions of one id are combined",
            remedy=f"give twister2_harp.{made}: it takes a dict from ids to partitions",
        )
