"""Keys: functions of a record, or names of columns; several of them, ascending or descending, or a comparator."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import attrs

from twister2.spec.errors import OperatorError, UsageError
from twister2.spec.names import did_you_mean
from twister2.spec.values import Value
from twister2_tset.problems import check_function, check_names, short

Key = Callable[[Any], Any] | str
"""A function of a record, or the name of a column: of an item of dicts, a field of an array or a named tuple."""

Keys = Key | Sequence[str]
"""The same, or names of several columns: the key is a tuple of their values."""


@attrs.frozen(eq=False, repr=False)
class Column(Value):
    """The value of a column of a record."""

    name: str

    @property
    def shown(self) -> str:
        """For plans."""
        return self.name

    def __call__(self, record: Any) -> Any:
        name = self.name
        if isinstance(record, Mapping):
            if name in record:
                return record[name]
            raise self._missing(record, sorted(map(str, record)))
        names = getattr(getattr(record, "dtype", None), "names", None)
        if names is not None:
            if name in names:
                return record[name].item() if hasattr(record[name], "item") else record[name]
            raise self._missing(record, names)
        try:
            return getattr(record, name)
        except AttributeError:
            raise self._missing(record, getattr(record, "_fields", ())) from None

    def _missing(self, record: Any, names: Sequence[str]) -> OperatorError:
        return OperatorError(
            f"a record has no column {self.name!r}: {short(record)}",
            why=f"its columns are: {', '.join(names)}{did_you_mean(self.name, names)}"
            if names
            else f"a {type(record).__name__} has no columns",
            remedy="name one of them, or give a function of the record",
            details={"record": short(record)},
        )


def shown(function: Any) -> str:
    """How a function is called in plans."""
    if isinstance(function, str):
        return function
    if isinstance(function, Sequence):
        return ", ".join(function)
    name = getattr(function, "shown", None) or getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).replace(".<locals>", "")


def key_function(key: Any, step: str, parameter: str = "key") -> Callable[[Any], Any]:
    """The function of a key.

    :raises UsageError: it is neither a function nor a name.
    """
    if isinstance(key, str):
        return Column(key)
    check_function(key, step, parameter)
    return key  # type: ignore[no-any-return]


def key_option(keys: Any, step: str) -> Callable[[Any], Any] | list[str]:
    """The option ``key`` of an operator: a function, or names of columns, of which batches with columns stay such.

    :raises UsageError: it is neither a function nor a name, or names nothing.
    """
    if not isinstance(keys, Sequence):
        return key_function(keys, step)
    names = [keys] if isinstance(keys, str) else [*keys]
    check_names(names, step)
    return names


def names_or_keys(keys: Sequence[Any], step: str) -> list[Any]:
    """Functions and names one after the other; a list of names stands for its names.

    :raises UsageError: one is neither, or names nothing.
    """
    found: list[Any] = []
    for key in keys:
        if isinstance(key, (list, tuple)):
            check_names(key, step)
            found.extend(key)
        else:
            key_function(key, step)
            found.append(key)
    return found


def joint_key(keys: Sequence[Any], step: str) -> Callable[[Any], Any]:
    """One function for several keys: a tuple of theirs; one key stays itself."""
    functions = [key_function(key, step) for key in keys]
    if len(functions) == 1:
        return functions[0]
    return lambda record: tuple(function(record) for function in functions)


Comparator = Callable[[Any, Any], int]
"""``comparator(a, b)``: negative, 0 or positive, as ``functools.cmp_to_key`` takes it."""

_comparators: dict[str, weakref.WeakSet[Comparing]] = {}
"""By name; several where workers are threads of one process."""
_lock = threading.Lock()


class Comparing:
    """The key for a comparator. What it gives can travel: the comparator is not sent, the receiver has it by its name.

    :param name: equal on all workers, and one for each use.
    """

    def __init__(self, comparator: Comparator, name: str, key: Callable[[Any], Any] | None = None) -> None:
        self.comparator = comparator
        self.name = name
        self._key = key
        with _lock:
            for gone in [other for other, those in _comparators.items() if not those]:
                del _comparators[gone]
            _comparators.setdefault(name, weakref.WeakSet()).add(self)

    @property
    def shown(self) -> str:
        """For plans."""
        return f"comparator {shown(self.comparator)}"

    def __call__(self, record: Any) -> Compared:
        return Compared(self, record if self._key is None else self._key(record))


@functools.total_ordering
class Compared:
    """A value that is compared by a comparator."""

    __slots__ = ("by", "value")

    def __init__(self, by: Comparing, value: Any) -> None:
        self.by = by
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compared) and self._compare(other) == 0

    def __lt__(self, other: Compared) -> bool:
        return self._compare(other) < 0

    def _compare(self, other: Compared) -> int:
        return sign(self.by.comparator, self.value, other.value)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return _compared, (self.by.name, self.value)


def sign(comparator: Comparator, one: Any, other: Any) -> int:
    """-1, 0 or 1, as a comparator says.

    :raises OperatorError: it says something else.
    """
    found: Any = comparator(one, other)
    if isinstance(found, bool) or not issubclass(type(found), Real) or found != found:
        raise OperatorError(
            f"the comparator returned {short(found)} for {short(one)} and {short(other)}",
            why="a comparator returns a negative number, 0, or a positive number",
            remedy="return -1 when the first comes first, 1 when the second does, 0 when neither does",
        )
    return -1 if found < 0 else 1 if found > 0 else 0


def _compared(name: str, value: Any) -> Compared:
    with _lock:
        by = next(iter(_comparators[name]))
    return Compared(by, value)


def check_directions(descending: Any, n: int, step: str) -> tuple[bool, ...]:
    """One direction for each key.

    :raises UsageError: there are more or fewer, or other things.
    """
    given = (descending,) * n if isinstance(descending, bool) else descending
    if not isinstance(given, Sequence) or len(given) != n or not all(isinstance(one, bool) for one in given):
        raise UsageError(
            f"{step}: descending is {short(descending)}",
            why=f"it is True or False for all keys, or a list of one for each of the {n} keys",
            remedy="give descending=True, or descending=[False, True]",
            where=step,
        )
    return tuple(given)
