"""Groups of a set by key, and what is made of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twister2_tset.folding import Moments, merge_moments, merge_totals
from twister2_tset.keys import Column, Key, key_function, shown
from twister2_tset.pair_steps import HasColumn, MapValues
from twister2_tset.problems import check_count, check_function
from twister2_tset.whole import EachGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2_tset.sets import TSet

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
A = TypeVar("A")


class Grouped(Generic[K, V]):
    """The records of a set by key: the result of ``group_by`` and ``group_by_key``.

    Every method is a step: it gives a set with one pair ``(key, result)`` per key. Results that can be combined
    (all but ``gather`` and ``map_groups``) are, before anything is sent.

    ``value``, where there is one, says what of a record is meant: a function or the name of a column; None: the record
    itself. Missing values (None) of a column are left out.
    """

    def __init__(self, pairs: TSet[tuple[K, V]], partitions: int | None) -> None:
        if partitions is not None:
            check_count(partitions, "group_by", "partitions")
        self._pairs = pairs
        self._partitions = partitions

    def __repr__(self) -> str:
        return f"<Grouped of {self._pairs!r}>"

    def count(self) -> TSet[tuple[K, int]]:
        """How many records each key has."""
        return self._reduced("count", "ones", lambda _: 1, "sum")

    def sum(self, value: Key | None = None) -> TSet[tuple[K, Any]]:
        """The sum of each group."""
        return self._reduced("sum", *self._value("sum", value), "sum")

    def min(self, value: Key | None = None) -> TSet[tuple[K, Any]]:
        """The smallest of each group."""
        return self._reduced("min", *self._value("min", value), "min")

    def max(self, value: Key | None = None) -> TSet[tuple[K, Any]]:
        """The largest of each group."""
        return self._reduced("max", *self._value("max", value), "max")

    def mean(self, value: Key | None = None) -> TSet[tuple[K, Any]]:
        """The mean of each group."""
        shows, of = self._value("mean", value)
        partial = self._reduced("mean", shows, lambda record: Moments(1, of(record)), merge_totals)
        return partial._step("mean", "sum by number", lambda: MapValues(Moments.average))

    def variance(self, value: Key | None = None, *, ddof: int = 0) -> TSet[tuple[K, float]]:
        """The variance of each group: squared differences from the mean, over their number less ``ddof``.

        NaN for a group of ``ddof`` records or fewer.
        """
        check_count(ddof, "variance", "ddof", 0)
        shows, of = self._value("variance", value)

        def one(record: Any) -> Moments:
            number = of(record)
            return Moments(1, number, float(number))

        partial = self._reduced("variance", shows, one, merge_moments)
        return partial._step("variance", "of moments", lambda: MapValues(lambda moments: moments.variance(ddof)))

    def reduce(self, reducer: Callable[[V, V], V] | str) -> TSet[tuple[K, V]]:
        """The records of each group combined; ``reducer`` as in ``keyed_reduce``."""
        return self._pairs.keyed_reduce(reducer, partitions=self._partitions)

    def aggregate(
        self, zero: A | Callable[[], A], add: Callable[[A, V], A], merge: Callable[[A, A], A]
    ) -> TSet[tuple[K, A]]:
        """The records of each group folded, as ``keyed_aggregate``."""
        return self._pairs.keyed_aggregate(zero, add, merge, partitions=self._partitions)

    def gather(self, *, ordered: bool = False) -> TSet[tuple[K, Sequence[V]]]:
        """All records of each group; ``ordered``: in the order of the set."""
        return self._pairs.keyed_gather(ordered=ordered, partitions=self._partitions)

    def map_groups(self, function: Callable[[K, Sequence[V]], R]) -> TSet[R]:
        """``function(key, records)`` of each group: one record per key, which need not be a pair."""
        check_function(function, "map_groups")
        groups = self._pairs.keyed_gather(partitions=self._partitions)
        return groups._step("map_groups", shown(function), lambda: EachGroup(function))

    # -- inside --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _value(step: str, value: Key | None) -> tuple[str, Callable[[Any], Any]]:
        if value is None:
            return "records", _itself
        return shown(value), key_function(value, step, "value")

    def _reduced(self, step: str, shows: str, of: Callable[[Any], Any], reducer: Any) -> TSet[Any]:
        pairs: TSet[Any] = self._pairs
        if isinstance(of, Column):
            pairs = pairs._step(step, f"{shows} is there", lambda: HasColumn(of))
        if of is not _itself:
            pairs = pairs._step(step, shows, lambda: MapValues(of))
        options = {"reducer": reducer}
        return pairs._exchange(step, f"{shown(reducer)} of each key", "net.keyed_reduce", options, self._partitions)


def _itself(record: Any) -> Any:
    return record
