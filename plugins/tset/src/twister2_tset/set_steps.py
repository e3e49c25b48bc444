"""Steps between partitions on records of any kind: order, sets, numbers, copies."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, overload

from twister2.spec.errors import OperatorError, UsageError
from twister2_tset.base import NOTHING, BaseSet, reducer_options
from twister2_tset.grouping import Grouped
from twister2_tset.keys import Keys, check_directions, joint_key, key_option, names_or_keys, shown, sign
from twister2_tset.meeting import CountPlaced, Gathered, Routing, Zipping
from twister2_tset.nodes import Way
from twister2_tset.pair_steps import Head, Swap
from twister2_tset.partials import Number
from twister2_tset.problems import PLACING, TWO, check_count, check_function
from twister2_tset.taking import Stops, stoppable

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
        key: Keys | None = None,
        partitions: int | None = None,
    ) -> TSet[T]:
        """The same records in other partitions.

        :param partitioner: ``hash`` or ``range`` (of the ``key``, else of the record, of columns the first),
            ``round_robin``, for partitions of one size and for records that are no keys (dicts), or
            ``partitioner(record, n_partitions)``, which returns the number of the partition.
        :param key: a function of a record, the name of a column, or a list of names.
        :param partitions: of the result; as many as now when None.
        :raises UsageError: a key beside a partitioner that looks at none.
        """
        if not isinstance(partitioner, str):
            check_function(partitioner, "partition", "partitioner", PLACING)
        options: dict[str, Any] = {"partitioner": partitioner}
        if key is not None and (partitioner == "round_robin" or not isinstance(partitioner, str)):
            raise UsageError(
                f"partition: a key is given, and {shown(partitioner)} looks at none",
                why="it chooses the partition of a record without it",
                remedy="leave the key out, or partition by hash or range",
                where="partition",
            )
        if key is not None:
            options["key"] = key_option(key, "partition")
            self._check_columns("partition", names_or_keys([key], "partition"))
        return self._exchange("partition", f"by {shown(partitioner)}", "net.partition", options, partitions)

    def replicate(self) -> TSet[T]:
        """All records on every worker: one partition on each.

        For functions on the workers: :meth:`add_input` gives it to them, ``map`` and the like and ``for_each`` run on
        every copy, and so do :meth:`collect`, :meth:`gather` and :meth:`take`. Where each copy would count (``join``,
        ``union``, ``sort``, ``count``, ``sum``, ``write_text``...) it is an error; a small side of a :meth:`join` goes
        to all workers by itself.
        """
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

    def limit(self, n: int) -> TSet[T]:
        """The first ``n`` records in order of partitions, as :meth:`take`, but a step: a set of one partition; fewer
        when there are no more.

        Sources are read only as far as needed when nothing but steps within partitions is between.
        """
        check_count(n, "limit", "n", 0)
        self._check_once("limit")
        stops = Stops()
        shows = f"the first {n:,} of each partition"
        heads = self._new(stoppable(self._node, stops))._step(
            "limit", shows, lambda: Head(n, stops.indices.add), narrow=False
        )
        options = {"partitioner": "round_robin", "ordered": True}
        return heads._exchange(
            "limit", f"the first {n:,} of all", "net.partition", options, 1, make=functools.partial(Head, n)
        )

    # -- order ---------------------------------------------------------------------------------------------------------

    def sort(
        self,
        *keys: Keys | Callable[[T], Any] | None,
        key: Keys | Callable[[T], Any] | None = None,
        descending: bool | Sequence[bool] = False,
        comparator: Callable[[Any, Any], int] | None = None,
        partitions: int | None = None,
    ) -> TSet[T]:
        """All records in order: within partitions and from each partition to the next.

        Ranges of about equal size are chosen from a sample. As with ``sorted``, records with equal keys keep the order
        they had in this set (by partition, then by place in it), with ``descending`` too. NaN comes last, and None
        behind it. Arrow batches and structured arrays that are sorted by columns stay columns; what is held is on disk
        when memory gets short.

        :param keys: functions of a record, names of columns, or lists of names; later ones count between records whose
            earlier keys are equal. ``key=...`` says one of them by name. :param descending: for all keys, or one for
            each.
        :param comparator: instead of the keys' own order: a function of two records (two keys, when one is given);
            negative, 0 or positive, as ``functools.cmp_to_key`` takes it.
        """
        given = names_or_keys([one for one in (*keys, key) if one is not None], "sort")
        self._check_columns("sort", given)
        down = check_directions(descending, max(1, len(given)), "sort")
        options: dict[str, Any] = {"descending": list(down) if given else down[0]}
        if given:
            options["key"] = given
        if comparator is not None:
            check_function(comparator, "sort", "comparator", TWO)
            options["comparator"] = functools.partial(sign, comparator)
        said = given or ([] if comparator is None else [comparator])
        by = ", ".join(f"{shown(one)}{' descending' if back else ''}" for one, back in zip(said, down, strict=False))
        shows = f"by {by or 'the records'}{', descending' if down[0] and not said else ''}"
        return self._exchange("sort", shows, "net.sort", options, partitions)

    def zip_with_index(self) -> TSet[tuple[T, int]]:
        """Pairs of the record and its number over all partitions, from 0, in the order of this set.

        The records are held until those of all partitions are counted, on disk when memory gets short.
        """
        numbered = self._exchange("zip_with_index", "numbers over all partitions", "net.number", {})
        return numbered._step("zip_with_index", "record and number", Swap)

    # -- equal records, and groups -------------------------------------------------------------------------------------

    def count_by_value(self, *, partitions: int | None = None) -> TSet[tuple[T, int]]:
        """Pairs ``(record, how often it is there)``; records must be hashable."""
        return self._exchange("count_by_value", "how often each record is there", "net.count_by_value", {}, partitions)

    def distinct(
        self,
        *keys: Keys | Callable[[T], Any] | None,
        key: Keys | Callable[[T], Any] | None = None,
        partitions: int | None = None,
    ) -> TSet[T]:
        """Each record once, or one record for each key: the first in the order of this set.

        Records (or keys) must be hashable; rows (dicts) are compared by what is in them. None and NaN are equal to
        themselves.

        :param keys: functions of a record, names of columns, or lists of names: what they all give is the key.
            ``key=...`` says one of them by name.
        """
        said = [one for one in (*keys, key) if one is not None]
        given = names_or_keys(said, "distinct")
        self._check_columns("distinct", given)
        named = all(isinstance(one, str) for one in given)
        options = {"key": given if named else joint_key(given, "distinct")} if said else {}
        by = ", ".join(map(shown, given))
        shows = f"the first of each {by}" if given else "of equal records the first"
        return self._exchange("distinct", shows, "net.distinct", options, partitions)

    @overload
    def group_by(self, key: Callable[[T], K], /, *, partitions: int | None = None) -> Grouped[K, T]: ...
    @overload
    def group_by(self, *keys: Keys, partitions: int | None = None) -> Grouped[Any, T]: ...
    def group_by(self, *keys: Keys, partitions: int | None = None) -> Grouped[Any, T]:
        """The records by key, for what is made of each group: ``count()``, ``sum("column")``, ``aggregate(...)``...

        :param keys: a function of a record, the name of a column, or a list of names; the key of several is a tuple.
        :raises UsageError: none is given.
        """
        if not keys:
            raise UsageError(
                "group_by: there is no key",
                why="it takes functions of a record, or names of columns",
                remedy="name one; for pairs use group_by_key(), for equal records count_by_value()",
                where="group_by",
            )
        found = names_or_keys(keys, "group_by")
        self._check_columns("group_by", found)
        return Grouped(self._new(self._node), found, partitions)

    # -- several sets --------------------------------------------------------------------------------------------------

    def union(self, *others: TSet[T], partitions: int | None = None) -> TSet[T]:
        """The records of all these sets, in no particular order; records that are equal stay."""
        shows = f"with {len(others)} other{'s' if len(others) != 1 else ''}"
        return self._exchange("union", shows, "net.union", {}, partitions, others=others)

    def cross(self, other: TSet[R]) -> TSet[tuple[T, R]]:
        """All pairs of a record of this set and one of the other, in no particular order.

        The smaller one is sent to all partitions. Both are held, on disk when memory gets short; the pairs are made as
        they are taken.
        """
        return self._exchange("cross", "all pairs with the other", "net.cross", {}, others=[other])

    def zip(self, other: TSet[R], *, strict: bool = False) -> TSet[tuple[T, R]]:
        """Pairs of the records of this set and the other that have the same number, in the order of this set.

        As Python's ``zip`` it ends with the shorter one. The two need not have the same partitions: the other's records
        are sent to where this one's lie. Both are held, on disk when memory gets short.

        :param strict: sets of different length are an error when it runs.
        """
        self._check_once("zip")
        self._check_other(other, "zip")
        other._check_once("zip")
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
