"""Steps between partitions on records of any kind: order, sets, numbers, copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from twister2.spec.errors import OperatorError, UsageError
from twister2_tset.base import NOTHING, BaseSet, reducer_options
from twister2_tset.grouping import Grouped
from twister2_tset.keys import Comparing, Key, Mixed, check_directions, joint_key, key_function, shown
from twister2_tset.meeting import CountPlaced, Crossing, Gathered, Numbering, Routing, Zipping
from twister2_tset.nodes import Way
from twister2_tset.pair_steps import DistinctKey, KeyBy, Place, Side, earliest
from twister2_tset.partials import Number, SortRecords
from twister2_tset.problems import check_function, exclusive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2_tset.sets import TSet

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")


class SetSteps(BaseSet[T]):
    """See :class:`~twister2_tset.TSet`."""

    # -- where records lie ---------------------------------------------------------------------------------------------

    def partition(
        self,
        partitioner: Callable[[T, int], int] | str = "hash",
        *,
        key: Key | None = None,
        partitions: int | None = None,
    ) -> TSet[T]:
        """The same records in other partitions.

        :param partitioner: ``hash`` or ``range`` (of the record or its ``key``), ``round_robin``, or
            ``partitioner(record, n_partitions)``, which returns the number of the partition.
        :param partitions: of the result; as many as now when None.
        """
        if not isinstance(partitioner, str):
            check_function(partitioner, "partition", "partitioner")
        options: dict[str, Any] = {"partitioner": partitioner}
        if key is not None:
            options["key"] = key_function(key, "partition")
        return self._exchange("partition", f"by {shown(partitioner)}", "net.partition", options, partitions)

    def replicate(self) -> TSet[T]:
        """All records on every worker: one partition on each."""
        return self._exchange("replicate", "all records to every worker", "net.broadcast", {}, None, everywhere=True)

    def all_reduce(self, reducer: Callable[[T, T], T] | str, *, initial: T = NOTHING) -> TSet[T]:
        """One record on every worker: all records combined, as :meth:`reduce`, but a step. Empty for an empty set
        without ``initial``.
        """
        by, options = reducer_options("all_reduce", reducer, initial)
        return self._exchange("all_reduce", f"one value by {by}", "net.allreduce", options, None, everywhere=True)

    def all_gather(self) -> TSet[tuple[int, T]]:
        """Pairs ``(partition, record)`` of all records on every worker, in the order of this set."""
        numbered = self._step("all_gather", "batches with their place", Number, narrow=False)
        return numbered._exchange(
            "all_gather", "all records to every worker", "net.broadcast", {}, make=Gathered, everywhere=True
        )

    # -- order ---------------------------------------------------------------------------------------------------------

    def sort(
        self,
        *keys: Key | Callable[[T], Any] | None,
        key: Key | Callable[[T], Any] | None = None,
        descending: bool | Sequence[bool] = False,
        comparator: Callable[[Any, Any], int] | None = None,
        partitions: int | None = None,
    ) -> TSet[T]:
        """All records in order: within partitions and from each partition to the next.

        Ranges of about equal size are chosen from a sample. As with ``sorted``, records with equal keys keep the order
        they had in this set (by partition, then by place in it), with ``descending`` too. Keys that are not even equal
        to themselves (NaN) have no order: filter them out first, or give a ``key`` that places them.

        :param keys: functions of a record, or names of columns; later ones count between records whose earlier keys are
            equal. ``key=...`` says one of them by name. :param descending: for all keys, or one for each.
        :param comparator: instead of the keys' own order: a function of two records (two keys, when one is given);
            negative, 0 or positive, as ``functools.cmp_to_key`` takes it.
        """
        given = [*(one for one in keys if one is not None), *(() if key is None else (key,))]
        down = check_directions(descending, max(1, len(given)), "sort")
        function: Callable[[Any], Any] | None = joint_key(given, "sort") if given else None
        if len(set(down)) > 1:
            function, backwards = Mixed(tuple(key_function(one, "sort") for one in given), down), False
        else:
            backwards = down[0]
        if comparator is not None:
            check_function(comparator, "sort", "comparator")
            if len(set(down)) > 1:
                exclusive("sort", comparator=comparator, descending=descending)
            function = Comparing(comparator, self.context.unique("comparator"), function)
        options: dict[str, Any] = {"partitioner": "range", "descending": backwards, "ordered": True}
        if function is not None:
            options["key"] = function
        shows = f"by {shown(function) if function is not None else 'the records'}{', descending' if backwards else ''}"
        return self._exchange(
            "sort", shows, "net.partition", options, partitions, make=lambda: SortRecords(function, backwards)
        )

    def zip_with_index(self) -> TSet[tuple[T, int]]:
        """Pairs of the record and its number over all partitions, from 0, in the order of this set.

        The records are held until those of all partitions are counted, on disk when memory gets short.
        """
        ways = [Way("records", self._node), Way("counts", self._counts(), "net.broadcast")]
        return self._meeting("zip_with_index", "numbers over all partitions", ways, Numbering)

    # -- equal records, and groups -------------------------------------------------------------------------------------

    def count_by_value(self, *, partitions: int | None = None) -> TSet[tuple[T, int]]:
        """Pairs ``(record, how often it is there)``; records must be hashable."""
        return self._exchange("count_by_value", "how often each record is there", "net.count_by_value", {}, partitions)

    def distinct(self, key: Key | Callable[[T], Any] | None = None, *, partitions: int | None = None) -> TSet[T]:
        """Each record once, or one record for each ``key``: the first in the order of this set.

        Records (or keys) must be hashable; rows (dicts) and lists are compared by what is in them. None and NaN are
        equal to themselves.
        """
        function = None if key is None else key_function(key, "distinct")
        placed = self._step("distinct", "records with their place", Place)
        keyed = placed._step("distinct", "keys" if key is None else shown(key), lambda: DistinctKey(function))
        first = keyed._exchange("distinct", "the first of each", "net.keyed_reduce", {"reducer": earliest}, partitions)
        return first.values()._step("distinct", "records", lambda: Side(1))

    @overload
    def group_by(self, key: Callable[[T], K], /, *, partitions: int | None = None) -> Grouped[K, T]: ...
    @overload
    def group_by(self, *keys: Key, partitions: int | None = None) -> Grouped[Any, T]: ...
    def group_by(self, *keys: Key, partitions: int | None = None) -> Grouped[Any, T]:
        """The records by key, for what is made of each group: ``count()``, ``sum("column")``, ``aggregate(...)``...

        :param keys: a function of a record, or the name of a column; the key of several is a tuple.
        :raises UsageError: none is given.
        """
        if not keys:
            raise UsageError(
                "group_by: there is no key",
                why="it takes functions of a record, or names of columns",
                remedy="name one; for pairs use group_by_key(), for equal records count_by_value()",
                where="group_by",
            )
        function = joint_key(keys, "group_by")
        return Grouped(self._step("group_by", shown(function), lambda: KeyBy(function)), partitions)

    # -- several sets --------------------------------------------------------------------------------------------------

    def union(self, *others: TSet[T], partitions: int | None = None) -> TSet[T]:
        """The records of all these sets, in no particular order; records that are equal stay."""
        shows = f"with {len(others)} other{'s' if len(others) != 1 else ''}"
        return self._exchange("union", shows, "net.union", {}, partitions, others=others)

    def cross(self, other: TSet[R]) -> TSet[tuple[T, R]]:
        """All pairs of a record of this set and one of the other, in no particular order.

        The other is sent to all partitions of this set: let it be the smaller one. Both are held, on disk when memory
        gets short; the pairs are made as they are taken.
        """
        self._check_other(other, "cross")
        ways = [Way("left", self._node), Way("right", other._node, "net.broadcast")]
        return self._meeting("cross", "all pairs with the other", ways, Crossing)

    def zip(self, other: TSet[R], *, strict: bool = False) -> TSet[tuple[T, R]]:
        """Pairs of the records of this set and the other that have the same number, in the order of this set.

        As Python's ``zip`` it ends with the shorter one. The two need not have the same partitions: the other's records
        are sent to where this one's lie. Both are held, on disk when memory gets short.

        :param strict: sets of different length are an error when it runs.
        """
        self._check_other(other, "zip")
        title = self._title("zip")

        def check(left: int, right: int) -> None:
            if strict and left != right:
                raise OperatorError(
                    f"{title}: one set has {left:,} records, the other {right:,}",
                    why="strict=True says that they are of one length",
                    remedy="mend the data, or leave strict out: then the longer one's last records are left out",
                )

        counts, theirs = self._counts(), other._counts()
        ways = [
            Way("records", other._node),
            Way("left", counts, "net.broadcast"),
            Way("right", theirs, "net.broadcast"),
        ]
        routed = other._meeting("zip", "where the other's records go", ways, lambda: Routing(check))
        ways = [
            Way("left", self._node),
            Way("right", routed._node, "net.partition", {"partitioner": _first_part, "ordered": True}),
        ]
        return self._meeting("zip", "pairs in order", ways, Zipping)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _counts(self) -> Any:
        return self._step("count records", "of each partition", CountPlaced, narrow=False)._node


def _first_part(record: tuple[int, Any], n: int) -> int:
    return record[0]
