"""Tables of partitions: what Harp's collectives on structured data work on."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import OperatorError
from twister2.spec.reducers import FUNCTIONS, combiner

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.collectives import Op


class Status(enum.Enum):
    """What became of a partition that was added."""

    ADDED = "added"
    COMBINED = "combined"


class Table(MutableMapping[int, Any]):
    """Partitions by id: a mapping from integers to arrays (or any other values), with a combiner for equal ids.

    ::

        table = Table(combiner="sum")
        table.add(3, numpy.ones(10))  # Status.ADDED
        table.add(3, numpy.ones(10))  # Status.COMBINED: the values are added up

    :param partitions: what it has at first. :param combiner: how two values of one id become one: ``sum prod min max
        and or xor band bor bxor``, or an associative function of two values that does not change them.
    :raises OperatorError: unknown combiner.
    """

    __slots__ = ("_combine", "_partitions", "combiner")

    def __init__(self, partitions: Mapping[int, Any] | None = None, combiner: Op = "sum") -> None:
        self.combiner = combiner
        self._combine = _function(combiner)
        self._partitions: dict[int, Any] = dict(partitions or {})

    def add(self, partition: int, value: Any) -> Status:
        """Add a partition; one that is there already is combined with it."""
        if partition in self._partitions:
            self._partitions[partition] = self._combine(self._partitions[partition], value)
            return Status.COMBINED
        self._partitions[partition] = value
        return Status.ADDED

    def merge(self, other: Mapping[int, Any]) -> None:
        """Add every partition of another table."""
        for partition, value in other.items():
            self.add(partition, value)

    def copy(self) -> Table:
        """Another table with the same values."""
        return type(self)(self._partitions, self.combiner)

    def empty(self) -> Table:
        """Another table with the same combiner and no partition."""
        return type(self)(None, self.combiner)

    def __getitem__(self, partition: int) -> Any:
        return self._partitions[partition]

    def __setitem__(self, partition: int, value: Any) -> None:
        self._partitions[partition] = value

    def __delitem__(self, partition: int) -> None:
        del self._partitions[partition]

    def __iter__(self) -> Iterator[int]:
        return iter(self._partitions)

    def __len__(self) -> int:
        return len(self._partitions)

    def __repr__(self) -> str:
        ids = sorted(self._partitions)
        shown = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
        return f"<{type(self).__name__} of {len(ids)} partitions: {shown}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._partitions, self.combiner)


def merged(left: Table, right: Table) -> Table:
    """A new table with the partitions of both; what the collectives reduce tables by."""
    if not isinstance(right, Table):
        raise TypeError(f"a table was combined with a {type(right).__name__}")
    result = left.copy()
    result.merge(right)
    return result


def own(table: Table) -> Table:
    """Make arrays that lie in a transport's buffer the caller's own, in place: programs change partitions."""
    for partition, value in table.items():
        mine = _own(value)
        if mine is not value:
            table[partition] = mine
    return table


def _own(value: Any) -> Any:
    """The value itself, or a copy when it is, or is a dict of values with, an array that cannot be written to."""
    if type(value) is dict:
        owned = {key: _own(one) for key, one in value.items()}
        return owned if any(owned[key] is not one for key, one in value.items()) else value
    flags = getattr(value, "flags", None)
    return value.copy() if flags is not None and not flags.writeable else value


def _function(op: Op) -> Callable[[Any, Any], Any]:
    function = combiner(op)
    if function is None:
        raise OperatorError(
            f"{op!r} is no combiner",
            why="it is neither a function of two values nor a known name",
            remedy=f"give a function or one of {', '.join(FUNCTIONS)}",
        )
    return function
