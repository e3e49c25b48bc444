"""Groups of a set by key, and what is made of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from twister2.spec.errors import UsageError
from twister2_tset.keys import Key, joint_key, key_function, shown
from twister2_tset.pair_steps import AsPairs, KeyBy, MapValues, RowsToPairs
from twister2_tset.problems import check_choice, check_count, check_function, check_names, short
from twister2_tset.whole import EachGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2_tset.functions import OfGroupWithContext
    from twister2_tset.sets import TSet

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
A = TypeVar("A")

RESULTS = ("sum", "min", "max", "count", "mean", "variance", "std", "count_distinct", "list", "median")
"""What can become of the values of a group, by name."""
_CALLED = {
    **dict.fromkeys(("avg", "average"), "mean"),
    **dict.fromkeys(("var", "varpop"), "variance"),
    **dict.fromkeys(("stddev", "stddevpop"), "std"),
    **dict.fromkeys(("nunique", "countdistinct", "approxcountdistinct"), "count_distinct"),
    **dict.fromkeys(("collectlist", "implode", "tolist"), "list"),
    **dict.fromkeys(("size", "len"), "count"),
    "first": "the first row of each key is given by distinct(key)",
    "last": "the first row of each key is given by sort(..., descending=True).distinct(key)",
}
"""What other systems call them."""


class Grouped(Generic[K, V]):
    """The records of a set by key: the result of ``group_by`` and ``group_by_key``.

    Every method is a step: it gives a set with one pair ``(key, result)`` per key. Results that can be combined
    (all but ``gather`` and ``map_groups``) are, before anything is sent; of Arrow batches and structured arrays that
    are grouped by columns, without a loop per record.

    ``value``, where there is one, says what of a record is meant: a function or the name of a column; None: the record
    itself. Missing values (None) are left out, by ``min`` and ``max`` NaN as well.

    :param keys: functions or names of columns; none for a set of pairs.
    """

    def __init__(self, records: TSet[Any], keys: Sequence[Key], partitions: int | None) -> None:
        if partitions is not None:
            check_count(partitions, "group_by", "partitions")
        self._records = records
        self._keys = tuple(keys)
        self._partitions = partitions

    def __repr__(self) -> str:
        return f"<Grouped of {self._records!r}>"

    def count(self) -> TSet[tuple[K, int]]:
        """How many records each key has."""
        return self._aggregated("count", None)

    def sum(self, value: Key | None = None) -> TSet[tuple[K, Any]]:
        """The sum of each group."""
        return self._aggregated("sum", value)

    def min(self, value: Key | None = None) -> TSet[tuple[K, Any]]:
        """The smallest of each group; None of no values."""
        return self._aggregated("min", value)

    def max(self, value: Key | None = None) -> TSet[tuple[K, Any]]:
        """The largest of each group; None of no values."""
        return self._aggregated("max", value)

    def mean(self, value: Key | None = None) -> TSet[tuple[K, Any]]:
        """The mean of each group; None of no values."""
        return self._aggregated("mean", value)

    def variance(self, value: Key | None = None, *, ddof: int = 0) -> TSet[tuple[K, Any]]:
        """The variance of each group: squared differences from the mean, over their number less ``ddof``.

        :param ddof: 0 for all values, 1 for the estimate from a sample. None of ``ddof`` values or fewer.
        """
        check_count(ddof, "variance", "ddof", 0)
        return self._aggregated("variance", value, ddof=ddof)

    def std(self, value: Key | None = None, *, ddof: int = 0) -> TSet[tuple[K, Any]]:
        """The standard deviation of each group: the root of :meth:`variance`."""
        check_count(ddof, "std", "ddof", 0)
        return self._aggregated("std", value, ddof=ddof)

    def median(self, value: Key | None = None) -> TSet[tuple[K, Any]]:
        """The value in the middle of each group, of an even number the mean of the two in the middle; None of no
        values, NaN where one is. All values of a group are sent to one worker, and held there.
        """
        return self._aggregated("median", value)

    def agg(self, *columns: Mapping[str, str], **results: str | tuple[Key, str]) -> TSet[Any]:
        """Several results at once: ``agg(total=("price", "sum"), rows="count")``.

        Rows with the key columns and the results where keys are names of columns; else pairs ``(key, results)``.

        :param columns: results that are called as their columns: ``{"price": "sum"}``.
        :param results: a column or a function of a record, and what becomes of it: ``sum``, ``min``, ``max``,
            ``count``, ``mean``, ``variance``, ``std`` (of all values: ``ddof`` is 0), ``count_distinct``, ``median``,
            ``list`` (the values, in no order); or ``"count"`` alone, of records.
        :raises UsageError: none is named, or one has no name.
        """
        for given in columns:
            if not isinstance(given, Mapping):
                raise UsageError(
                    f"agg: {short(given)} has no name",
                    why="each result becomes a column, which has the name it is given by",
                    remedy='give agg(total=("column", "sum"), rows="count"), or agg({"column": "sum"})',
                    where="agg",
                )
            results = {**{name: (name, function) for name, function in given.items()}, **results}
        check_names(results, "agg")
        for name, what in results.items():
            pair = isinstance(what, (tuple, list)) and len(what) == 2
            check_choice(
                what[1] if pair else what, RESULTS, "agg", name, _CALLED, "" if pair else 'or ("column", "sum")'
            )
            if pair:
                key_function(what[0], "agg", name)
        self._records._check_columns("agg", [what[0] for what in results.values() if not isinstance(what, str)])
        shows = ", ".join(f"{name}={_made_of(what)}" for name, what in results.items())
        return self._records._exchange("agg", shows, "net.aggregate", self._options(dict(results)), self._partitions)

    def reduce(self, reducer: Callable[[V, V], V] | str) -> TSet[tuple[K, V]]:
        """The records of each group combined; ``reducer`` as in ``keyed_reduce``."""
        return self._pairs()._keyed_reduce("reduce", reducer, self._partitions)

    def aggregate(
        self, zero: A | Callable[[], A], add: Callable[[A, V], A], merge: Callable[[A, A], A]
    ) -> TSet[tuple[K, A]]:
        """The records of each group folded, as ``keyed_aggregate``."""
        return self._pairs()._keyed_aggregate("aggregate", zero, add, merge, self._partitions)

    def gather(self, *, ordered: bool = False) -> TSet[tuple[K, Sequence[V]]]:
        """All records of each group; ``ordered``: in the order of the set."""
        return self._pairs().keyed_gather(ordered=ordered, partitions=self._partitions)

    @overload
    def map_groups(self, function: Callable[[K, Sequence[V]], R]) -> TSet[R]: ...
    @overload
    def map_groups(self, function: OfGroupWithContext[K, Sequence[V], R]) -> TSet[R]: ...
    def map_groups(self, function: Callable[..., Any]) -> TSet[Any]:
        """``function(key, records)`` of each group: one record per key, which need not be a pair."""
        check_function(function, "map_groups", given=("key", "records"), context=True)
        groups = self._pairs().keyed_gather(partitions=self._partitions)
        return groups._step("map_groups", shown(function), lambda: EachGroup(function))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _pairs(self) -> TSet[Any]:
        if not self._keys:
            return self._records
        function = joint_key(self._keys, "group_by")
        return self._records._step("group_by", ", ".join(map(shown, self._keys)), lambda: KeyBy(function))

    def _options(self, aggregates: Any) -> dict[str, Any]:
        if not self._keys:
            return {"aggregates": aggregates, "pairs": True}
        return {"aggregates": aggregates, "key": list(self._keys) if len(self._keys) > 1 else self._keys[0]}

    def _aggregated(self, step: str, value: Key | None, **more: Any) -> TSet[Any]:
        records, partitions = self._records, self._partitions
        of = None if value is None else key_function(value, step, "value")
        records._check_columns(step, [value])
        shows = f"{shown(value)} of each key" if value is not None else "of each key"
        names = [key for key in self._keys if isinstance(key, str)]
        if names and len(names) == len(self._keys) and (isinstance(value, str) or step == "count"):
            out = next(name for name in ("value", "result", "_value") if name not in names)
            options = self._options({out: "count" if step == "count" else (value, step)})
            rows = records._exchange(step, shows, "net.aggregate", {**options, **more}, partitions)
            return rows._step(step, "pairs of rows", lambda: RowsToPairs(names, out))
        pairs = self._pairs()
        if step == "count":
            pairs = pairs._step(step, "ones", lambda: MapValues(_one))
        elif of is not None:
            pairs = pairs._step(step, shown(value), lambda: MapValues(of))
        options = {"aggregates": step, "pairs": True, **more}
        return pairs._exchange(step, shows, "net.aggregate", options, partitions)._step(
            step, "pairs", lambda: AsPairs(step)
        )


def _made_of(what: Any) -> str:
    """What a result is made of, for plans."""
    if isinstance(what, (tuple, list)) and len(what) == 2:
        return f"{what[1]}({shown(what[0])})"
    return str(what)


def _one(record: Any) -> int:
    return 1
