"""Key-value tables: tables whose partitions are dictionaries, with each key in the partition of its stable hash."""

from __future__ import annotations

import math
import numbers
import operator
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import OperatorError, Twister2Error
from twister2.spec.hashing import stable_hash
from twister2.spec.tracebacks import short
from twister2.spec.user_code import not_combined
from twister2_harp.table import Status, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twister2.spec.collectives import Op


def one_nan(key: Any) -> Any:
    """The key, with any NaN in it, also inside tuples, made the one of this process: all NaNs are one key."""
    if isinstance(key, tuple):
        parts = tuple(map(one_nan, key))
        return key if all(map(operator.is_, parts, key)) else parts
    return math.nan if isinstance(key, numbers.Real) and key != key else key


class KeyValueTable(Table):
    """Values by key, spread over partitions: every collective on tables works on it, and merges equal keys.

    ``regroup`` brings all values of a key to one rank (a group-by-key with the combiner applied); ``allreduce`` gives
    everybody all keys.

    :param combiner: how two values of one key become one, as in :class:`~twister2_harp.table.Table`.
    :param n_partitions: number of partitions; equal on all members.
    """

    __slots__ = ("_values", "n_partitions")

    def __init__(
        self, partitions: Mapping[int, dict[Any, Any]] | None = None, combiner: Op = "sum", n_partitions: int = 64
    ) -> None:
        if n_partitions < 1:
            raise OperatorError(
                f"a table of {n_partitions} partitions holds nothing",
                why="every key lies in a partition",
                remedy="give n_partitions of at least 1",
            )
        super().__init__(partitions, combiner)
        self.n_partitions = n_partitions
        self._values = self._combine
        self._combine = self._merge_pairs

    def put(self, key: Any, value: Any) -> Status:
        """Add a value; one of an equal key is combined with it.

        :raises KeyHashError: the key has no stable hash.
        :raises OperatorError, UserCodeError: as :meth:`Table.add`.
        """
        key = one_nan(key)
        pairs = self._partitions.setdefault(stable_hash(key) % self.n_partitions, {})
        if key in pairs:
            pairs[key] = self._both(key, pairs[key], value)
            return Status.COMBINED
        pairs[key] = value
        return Status.ADDED

    def value(self, key: Any, default: Any = None) -> Any:
        """The value of a key that is here, else ``default``."""
        key = one_nan(key)
        return self._partitions.get(stable_hash(key) % self.n_partitions, {}).get(key, default)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """All pairs that are here, by partition."""
        for partition in sorted(self._partitions):
            yield from self._partitions[partition].items()

    def copy(self) -> KeyValueTable:
        partitions = {partition: dict(pairs) for partition, pairs in self._partitions.items()}
        return KeyValueTable(partitions, self.combiner, self.n_partitions)

    def empty(self) -> KeyValueTable:
        return KeyValueTable(None, self.combiner, self.n_partitions)

    def _merge_pairs(self, left: dict[Any, Any], right: dict[Any, Any]) -> dict[Any, Any]:
        result = {one_nan(key): value for key, value in left.items()}
        for key, value in ((one_nan(key), value) for key, value in right.items()):
            result[key] = self._both(key, result[key], value) if key in result else value
        return result

    def _both(self, key: Any, left: Any, right: Any) -> Any:
        try:
            return self._values(left, right)
        except Twister2Error:
            raise
        except Exception as error:
            raise not_combined(f"key {short(key, 60)} of a table", self.combiner, left, right, error) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyValueTable, (self._partitions, self.combiner, self.n_partitions)
