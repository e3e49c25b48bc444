"""Tables of partitions: what Harp's collectives on structured data work on."""

from __future__ import annotations

import copy
import enum
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import is_array, is_arrow
from twister2.spec.errors import OperatorError, Twister2Error
from twister2.spec.reducers import FUNCTIONS, combiner, name_of
from twister2.spec.user_code import not_combined

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

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
        self.combiner = name_of(combiner) or combiner
        self._combine = _function(combiner)
        self._partitions: dict[int, Any] = dict(partitions or {})
        for partition in self._partitions:
            _check_id(partition)

    def add(self, partition: int, value: Any) -> Status:
        """Add a partition; one that is there already is combined with it.

        :raises OperatorError: the id is no whole number; the combiner is not defined for the values, or their shapes.
        :raises UserCodeError: a function that combines raised.
        """
        _check_id(partition)
        if partition in self._partitions:
            have = self._partitions[partition]
            try:
                self._partitions[partition] = self._combine(have, value)
            except Twister2Error:
                raise
            except Exception as error:
                raise not_combined(f"partition {partition} of a table", self.combiner, have, value, error) from error
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
        _check_id(partition)
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


_PLAIN = (int, float, complex, str, bytes, bool, type(None))


def ids_of(*values: Any) -> set[int]:
    """What a caller holds in tables and other values: the identities of everything in them that could be changed."""
    found: set[int] = set()
    todo = list(values)
    while todo:
        value = todo.pop()
        if type(value) in _PLAIN or id(value) in found:
            continue
        found.add(id(value))
        if isinstance(value, Mapping):
            todo += value.values()
        elif type(value) in (list, tuple):
            todo += value
    return found


def apart(value: Any, given: Collection[int] = ()) -> Any:
    """The value as the receiver's own, which may be changed in place.

    Arrays that cannot be written to (they lie in a transport's buffer), views of others, and what the caller gave
    itself are copied; everything else stays.

    Looks into tables, dicts, lists and tuples.

    :param given: :func:`ids_of` what the caller gave.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Table):
        return _apart_table(value, given)
    if kind is dict:
        mine = {key: apart(one, given) for key, one in value.items()}
        return mine if id(value) in given or any(mine[key] is not one for key, one in value.items()) else value
    if kind is list or kind is tuple:
        items = [apart(one, given) for one in value]
        same = all(one is other for one, other in zip(items, value, strict=True))
        return value if same and (kind is tuple or id(value) not in given) else kind(items)
    if is_array(value):
        return value if value.flags.writeable and value.flags.owndata and id(value) not in given else value.copy()
    return copy.deepcopy(value) if id(value) in given and not is_arrow(value) else value


def _apart_table(table: Table, given: Collection[int]) -> Table:
    result = table.empty() if id(table) in given else table
    for partition, value in table.items():
        mine = apart(value, given)
        if mine is not value or result is not table:
            result[partition] = mine
    return result


def _check_id(partition: object) -> None:
    if not hasattr(type(partition), "__index__"):
        raise OperatorError(
            f"{partition!r} is no id of a partition",
            why="ids are whole numbers: they say which rank a partition belongs to",
            remedy="number the partitions, or use a KeyValueTable, whose keys may be anything with a stable hash",
        )


def _function(op: Op) -> Callable[[Any, Any], Any]:
    function = combiner(op)
    if function is None:
        raise OperatorError(
            f"{op!r} is no combiner",
            why="it is neither a function of two values nor a known name",
            remedy=f"give a function or one of {', '.join(FUNCTIONS)}",
        )
    return function
