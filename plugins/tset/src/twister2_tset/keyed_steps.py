"""Steps on sets of pairs ``(key, value)``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, overload

from twister2.spec.errors import UsageError
from twister2_tset.base import BaseSet, reducer_options
from twister2_tset.grouping import Grouped
from twister2_tset.keys import Comparator, Comparing, shown
from twister2_tset.pair_steps import AsPairs, FlatMapValues, MapValues, Side
from twister2_tset.problems import ADDING, PLACING, TWO, check_choice, check_function, exclusive, short
from twister2_tset.reducing import checked
from twister2_tset.row_joins import AsColumns, On, sides_of

if TYPE_CHECKING:
    from twister2_tset.functions import WithContext
    from twister2_tset.sets import TSet

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
A = TypeVar("A")

JoinKind = Literal["inner", "left", "right", "full", "semi", "anti"]
Algorithm = Literal["hash", "sort"]
Broadcast = Literal["auto", "left", "right", "no"]
_CALLED = {
    "outer": "full",
    "fullouter": "full",
    "leftouter": "left",
    "rightouter": "right",
    "leftsemi": "semi",
    "leftanti": "anti",
    "cross": "all pairs are made by cross(other)",
}
"""What other systems call kinds of joins."""
KeyedPartitioner = Callable[[tuple[K, V], int], int] | str
JoinPartitioner = Callable[[tuple[K, Any], int], int] | Literal["hash"]


class KeyedSteps(BaseSet[T]):
    """See :class:`~twister2_tset.TSet`."""

    # -- within partitions ---------------------------------------------------------------------------------------------

    @overload
    def map_values(self: KeyedSteps[tuple[K, V]], function: Callable[[V], R]) -> TSet[tuple[K, R]]: ...
    @overload
    def map_values(self: KeyedSteps[tuple[K, V]], function: WithContext[V, R]) -> TSet[tuple[K, R]]: ...
    def map_values(self, function: Callable[..., Any]) -> TSet[Any]:
        """Pairs ``(key, function(value))``."""
        check_function(function, "map_values", given=("value",), context=True)
        return self._step("map_values", shown(function), lambda: MapValues(function))

    @overload
    def flat_map_values(self: KeyedSteps[tuple[K, V]], function: Callable[[V], Iterable[R]]) -> TSet[tuple[K, R]]: ...
    @overload
    def flat_map_values(self: KeyedSteps[tuple[K, V]], function: WithContext[V, Iterable[R]]) -> TSet[tuple[K, R]]: ...
    def flat_map_values(self, function: Callable[..., Any]) -> TSet[Any]:
        """A pair ``(key, item)`` for each item of ``function(value)``."""
        check_function(function, "flat_map_values", given=("value",), context=True)
        return self._step("flat_map_values", shown(function), lambda: FlatMapValues(function))

    def keys(self: KeyedSteps[tuple[K, V]]) -> TSet[K]:
        """The key of each pair."""
        return self._step("keys", "of pairs", lambda: Side(0))

    def values(self: KeyedSteps[tuple[K, V]]) -> TSet[V]:
        """The value of each pair."""
        return self._step("values", "of pairs", lambda: Side(1))

    def keyed_direct(self: KeyedSteps[tuple[K, V]]) -> TSet[tuple[K, V]]:
        """As :meth:`direct`; sees to it that all records are pairs."""
        return self._exchange(
            "keyed_direct", "pairs, to a task of their own", "net.direct", {}, make=_as("keyed_direct")
        )

    def keyed_pipe(self: KeyedSteps[tuple[K, V]]) -> TSet[tuple[K, V]]:
        """As :meth:`pipe`; sees to it that all records are pairs."""
        return self._exchange("keyed_pipe", "pairs, to a task of their own", "net.pipe", {}, make=_as("keyed_pipe"))

    # -- between partitions --------------------------------------------------------------------------------------------

    def keyed_partition(
        self: KeyedSteps[tuple[K, V]],
        partitioner: KeyedPartitioner[K, V] = "hash",
        *,
        partitions: int | None = None,
    ) -> TSet[tuple[K, V]]:
        """The same pairs, all those of a key in one partition.

        :param partitioner: ``hash``, ``range`` (of keys, from a sample), or ``partitioner(pair, n_partitions)``, which
            returns the number of the partition.
        """
        if not isinstance(partitioner, str):
            check_function(partitioner, "keyed_partition", "partitioner", PLACING)
        options = {"partitioner": partitioner}
        return self._exchange("keyed_partition", f"by {shown(partitioner)}", "net.keyed_partition", options, partitions)

    def keyed_reduce(
        self: KeyedSteps[tuple[K, V]], reducer: Callable[[V, V], V] | str, *, partitions: int | None = None
    ) -> TSet[tuple[K, V]]:
        """One pair per key: its values combined.

        :param reducer: an associative and commutative function of two values, which it leaves as they are; or ``sum``,
            ``prod``, ``min``, ``max``, ``and``, ``or``. :param partitions: of the result; as many as now when None.
        """
        return self._keyed_reduce("keyed_reduce", reducer, partitions)

    def keyed_aggregate(
        self: KeyedSteps[tuple[K, V]],
        zero: A | Callable[[], A],
        add: Callable[[A, V], A],
        merge: Callable[[A, A], A],
        *,
        partitions: int | None = None,
    ) -> TSet[tuple[K, A]]:
        """One pair per key: its values folded by ``add``, from ``zero`` on; partial results of partitions by ``merge``.

        :param zero: what a fold begins with: it must change nothing when it is merged in. A list, set or dict is copied
            for each key; a function without arguments is called for each.
        :param merge: associative and commutative.
        """
        return self._keyed_aggregate("keyed_aggregate", zero, add, merge, partitions)

    @overload
    def keyed_gather(
        self: KeyedSteps[tuple[K, V]],
        *,
        grouped: Literal[True] = True,
        order: Callable[[K], Any] | bool | None = None,
        comparator: Callable[[K, K], int] | None = None,
        partitioner: KeyedPartitioner[K, V] = "hash",
        ordered: bool = False,
        partitions: int | None = None,
    ) -> TSet[tuple[K, Sequence[V]]]: ...
    @overload
    def keyed_gather(
        self: KeyedSteps[tuple[K, V]],
        *,
        grouped: Literal[False],
        order: Callable[[K], Any] | bool | None = None,
        comparator: Callable[[K, K], int] | None = None,
        partitioner: KeyedPartitioner[K, V] = "hash",
        ordered: bool = False,
        partitions: int | None = None,
    ) -> TSet[tuple[K, V]]: ...
    def keyed_gather(
        self: KeyedSteps[tuple[K, V]],
        *,
        grouped: bool = True,
        order: Callable[[K], Any] | bool | None = None,
        comparator: Comparator | None = None,
        partitioner: KeyedPartitioner[K, V] = "hash",
        ordered: bool = False,
        partitions: int | None = None,
    ) -> TSet[Any]:
        """All values of each key together, on disk when memory gets short.

        :param grouped: pairs ``(key, values)``; False: pairs ``(key, value)``, those of a key one after the other.
        :param order: of the keys within a partition: True, or a function of a key. :param comparator: the same as a
            function of two keys: negative, 0 or positive, as ``functools.cmp_to_key`` takes it.
        :param partitioner: as :meth:`keyed_partition`. :param ordered: values of a key in the order of this set; else
            as they arrive.
        """
        exclusive("keyed_gather", order=order, comparator=comparator)
        if not isinstance(partitioner, str):
            check_function(partitioner, "keyed_gather", "partitioner", PLACING)
        if comparator is not None:
            check_function(comparator, "keyed_gather", "comparator", TWO)
            order = Comparing(comparator, self.context.unique("comparator"))
        options = {"grouped": grouped, "order": order, "partitioner": partitioner, "ordered": ordered}
        by = f", by {shown(order)}" if callable(order) else ", in order" if order else ""
        shows = f"{'groups of' if grouped else 'neighbouring'} values of equal keys{by}"
        return self._exchange("keyed_gather", shows, "net.keyed_gather", options, partitions)

    def group_by_key(self: KeyedSteps[tuple[K, V]], *, partitions: int | None = None) -> Grouped[K, V]:
        """The values by key, for what is made of each group: ``count()``, ``sum()``, ``aggregate(...)``..."""
        return Grouped(self._step("group_by_key", "pairs", _as("group_by_key")), (), partitions)

    # -- several sets --------------------------------------------------------------------------------------------------

    @overload
    def join(
        self: KeyedSteps[tuple[K, V]],
        other: TSet[tuple[K, R]],
        how: Literal["inner"] = "inner",
        *,
        algorithm: Algorithm = "hash",
        broadcast: Broadcast = "auto",
        partitioner: JoinPartitioner[K] = "hash",
        comparator: Callable[[K, K], int] | None = None,
        partitions: int | None = None,
    ) -> TSet[tuple[K, tuple[V, R]]]: ...
    @overload
    def join(
        self: KeyedSteps[tuple[K, V]],
        other: TSet[tuple[K, R]],
        how: Literal["left"],
        *,
        algorithm: Algorithm = "hash",
        broadcast: Broadcast = "auto",
        partitioner: JoinPartitioner[K] = "hash",
        comparator: Callable[[K, K], int] | None = None,
        partitions: int | None = None,
    ) -> TSet[tuple[K, tuple[V, R | None]]]: ...
    @overload
    def join(
        self: KeyedSteps[tuple[K, V]],
        other: TSet[tuple[K, R]],
        how: Literal["right"],
        *,
        algorithm: Algorithm = "hash",
        broadcast: Broadcast = "auto",
        partitioner: JoinPartitioner[K] = "hash",
        comparator: Callable[[K, K], int] | None = None,
        partitions: int | None = None,
    ) -> TSet[tuple[K, tuple[V | None, R]]]: ...
    @overload
    def join(
        self: KeyedSteps[tuple[K, V]],
        other: TSet[tuple[K, R]],
        how: Literal["full"],
        *,
        algorithm: Algorithm = "hash",
        broadcast: Broadcast = "auto",
        partitioner: JoinPartitioner[K] = "hash",
        comparator: Callable[[K, K], int] | None = None,
        partitions: int | None = None,
    ) -> TSet[tuple[K, tuple[V | None, R | None]]]: ...
    @overload
    def join(
        self: KeyedSteps[tuple[K, V]],
        other: TSet[tuple[K, Any]],
        how: Literal["semi", "anti"],
        *,
        algorithm: Algorithm = "hash",
        broadcast: Broadcast = "auto",
        partitioner: JoinPartitioner[K] = "hash",
        comparator: Callable[[K, K], int] | None = None,
        partitions: int | None = None,
    ) -> TSet[tuple[K, V]]: ...
    @overload
    def join(
        self: KeyedSteps[tuple[K, Any]],
        other: TSet[tuple[K, Any]],
        how: JoinKind,
        *,
        algorithm: Algorithm = "hash",
        broadcast: Broadcast = "auto",
        partitioner: JoinPartitioner[K] = "hash",
        comparator: Callable[[K, K], int] | None = None,
        partitions: int | None = None,
    ) -> TSet[tuple[K, Any]]: ...
    @overload
    def join(
        self,
        other: TSet[Any],
        how: JoinKind = "inner",
        *,
        on: On,
        algorithm: Algorithm = "hash",
        broadcast: Broadcast = "auto",
        partitions: int | None = None,
    ) -> TSet[dict[str, Any]]: ...
    def join(
        self,
        other: TSet[Any],
        how: JoinKind = "inner",
        *,
        on: On | None = None,
        algorithm: Algorithm = "hash",
        broadcast: Broadcast = "auto",
        partitioner: JoinPartitioner[Any] = "hash",
        comparator: Comparator | None = None,
        partitions: int | None = None,
    ) -> TSet[Any]:
        """Pairs ``(key, (left, right))`` for all pairs of equal keys of this set and the other; or, with ``on``, rows.

        :param on: for sets of rows: the column that both have, several, or ``{"left column": "right column"}``. The
            rows of the result have the columns of both, the key columns once, under the names of the left; a column of
            the right whose name the left has too gets the suffix ``_right``. What is missing is None, also of columns
            that only some rows have; keys all rows must have. Rows are joined as columns of Arrow, without a loop per
            row where they are such already.
        :param how: ``inner``; ``left``, ``right``, ``full`` also give what has no partner, with None in its place;
            ``semi`` and ``anti`` give the records of this set alone, as they are: those that have a partner, or none.
        :param algorithm: ``hash``, or ``sort``: sorted runs, for keys that have an order.
        :param broadcast: the side that goes to all partitions, so that the other one, which should be much larger, is
            not sent at all: ``left`` for ``inner`` and ``right``, ``right`` for all but ``right`` and ``full``.
            ``auto``: a side that is known to be small, where it does not show how the pairs lie; ``no``: neither.
        :param partitioner: where pairs of both sets go: by the hash of their keys, or
            ``partitioner(pair, n_partitions)``, which returns the number of the partition by the key alone.
        :param comparator: with ``sort``, of pairs: the order of the keys within a partition, as :meth:`keyed_gather`
            takes it. :param partitions: of the result; as many as the larger set when None.
        """
        columns = f"columns are named by on={short(how)}" if on is None else ""
        check_choice(how, get_args(JoinKind), "join", "how", _CALLED, columns)
        check_choice(algorithm, get_args(Algorithm), "join", "algorithm")
        check_choice(broadcast, get_args(Broadcast), "join", "broadcast")
        options: dict[str, Any] = {"how": how, "algorithm": algorithm}
        if partitioner != "hash":
            check_function(partitioner, "join", "partitioner", PLACING)
            options["partitioner"] = partitioner
        if broadcast != "auto":
            options["broadcast"] = None if broadcast == "no" else broadcast
        exclusive("join", on=on, comparator=comparator)
        if comparator is not None:
            check_function(comparator, "join", "comparator", TWO)
            if algorithm != "sort":
                raise UsageError(
                    f"join: a comparator, and the algorithm is {short(algorithm)}",
                    why="a comparator puts keys in order, and only the algorithm 'sort' gives them in order",
                    remedy='give algorithm="sort", or no comparator',
                )
            options["order"] = Comparing(comparator, self.context.unique("comparator"))
        self._check_other(other, "join")
        sent = {"left": self, "right": other}.get(broadcast)
        to_all = "" if sent is None else f", {sent._node.title} to all partitions"
        if on is None:
            shows = f"{how}, by {algorithm}{to_all}"
            return self._exchange("join", shows, "net.join", options, partitions, others=[other])
        exclusive("join", on=on, partitioner=None if partitioner == "hash" else partitioner)
        left, right = options["left_key"], options["right_key"] = sides_of(on)
        self._check_columns("join", left)
        other._check_columns("join", right)
        sides = [
            one._step("join", f"rows as columns, by {', '.join(names)}", functools.partial(AsColumns, names))
            for one, names in ((self, left), (other, right))
        ]
        shows = f"{how}, by {algorithm}, on {', '.join(left)}"
        if left != right:
            shows += f" = {', '.join(right)}"
        shows += to_all
        return sides[0]._exchange("join", shows, "net.join", options, partitions, others=[sides[1]])

    def co_group(
        self: KeyedSteps[tuple[K, V]], *others: TSet[tuple[K, Any]], partitions: int | None = None
    ) -> TSet[tuple[K, tuple[Sequence[Any], ...]]]:
        """Pairs ``(key, (values here, values in the first other, ...))`` for every key that any of the sets has."""
        shows = f"values of equal keys of {1 + len(others)} sets"
        return self._exchange("co_group", shows, "net.co_group", {}, partitions, others=others)

    # -- inside: also for groups, whose steps have other names ---------------------------------------------------------

    def _keyed_reduce(self, step: str, reducer: Any, partitions: int | None) -> TSet[Any]:
        by, options = reducer_options(step, reducer)
        return self._exchange(step, f"values of equal keys by {by}", "net.keyed_reduce", options, partitions)

    def _keyed_aggregate(self, step: str, zero: Any, add: Any, merge: Any, partitions: int | None) -> TSet[Any]:
        check_function(add, step, "add", ADDING)
        check_function(merge, step, "merge", TWO)
        options = {"pairs": True, "zero": zero, "add": add, "merge": checked(merge, step)}
        shows = f"values of equal keys by {shown(add)} and {shown(merge)}"
        return self._exchange(step, shows, "net.aggregate", options, partitions)


def _as(step: str) -> Callable[[], AsPairs]:
    return lambda: AsPairs(step)
