"""The order of records that are sorted: by one key or several, each ascending or descending, or by a comparator.

What is missing comes last, in descending order too: NaN, and behind it None and null. Records whose keys are equal stay
in the order they were given in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any, Final

import attrs

from twister2.spec.batch import Batch, records
from twister2.spec.errors import OperatorError
from twister2.spec.names import did_you_mean
from twister2.spec.tracebacks import short
from twister2_net.problems import not_compared, user_error, wrong_option

if TYPE_CHECKING:
    from collections.abc import Iterable

_WHOLE: Final = frozenset({int, str, bytes, bool})
"""Types of keys among which nothing is missing."""

_THERE, _NAN, _NONE = 0, 1, 2


def row_key(name: str, label: str = "") -> Callable[[Any], Any]:
    """The function from a record to what it has under a name: an item of a dict, a field of a numpy record, or an
    attribute.
    """

    def get(record: Any) -> Any:
        try:
            if isinstance(record, Mapping) or getattr(getattr(record, "dtype", None), "names", None):
                return record[name]
            return getattr(record, name)
        except (KeyError, ValueError, AttributeError) as error:
            raise OperatorError(
                f"{label or 'a key'} needs '{name}', and {short(record)} has none",
                why="a key given as text is a column, a field, an item of a dict or an attribute"
                + (did_you_mean(name, map(str, record)) if isinstance(record, Mapping) else ""),
                remedy="name what all records have, or give a function of a record",
                where=label,
                details={"record": short(record)},
            ) from error

    return get


@attrs.frozen
class Part:
    """One key of several. :ivar name: of a column, or empty. :ivar function: from record to key; None: the record."""

    name: str
    function: Callable[[Any], Any] | None
    descending: bool


class _Down:
    """A key whose order is turned round."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key

    def __lt__(self, other: _Down) -> bool:
        return bool(other.key < self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Down) and bool(self.key == other.key)

    __hash__ = None  # type: ignore[assignment]


class RecordOrder:
    """How records are ordered.

    :param key: None for the records themselves, a function of a record, the name of a column (of dicts: an item, of
        other records: an attribute), or several of these, the first one decides first.
    :param descending: of all keys, or of each. :param comparator: ``comparator(a, b)`` is negative, 0 or positive; of
        keys, or of records when there is no key. :param label: of the operator, for messages.
    :raises OperatorError: an option that can mean nothing.
    """

    def __init__(self, key: Any, descending: Any, comparator: Any, label: str) -> None:
        self.label = label
        if comparator is not None and not callable(comparator):
            raise wrong_option(
                label, "comparator", f"{short(comparator)} is no function", "give a function of two keys"
            )
        self._wrap: Callable[[Any], Any] | None = None if comparator is None else cmp_to_key(comparator)
        keys = list(key) if isinstance(key, Sequence) and not isinstance(key, str) else [key]
        several = not isinstance(descending, bool)
        if several and (not isinstance(descending, Sequence) or len(descending) != len(keys)):
            raise wrong_option(
                label, "descending", f"{short(descending)} is given for {len(keys)} keys", "give a bool, or one per key"
            )
        directions = [bool(one) for one in descending] if several else [descending] * len(keys)
        if not keys:
            raise wrong_option(label, "key", "there is no key", "give at least one, or None for the record itself")
        self.parts = [self._part(one, down) for one, down in zip(keys, directions, strict=True)]
        self.columns = tuple(part.name for part in self.parts)
        """Names of the keys; empty texts where a key has none."""

    def _part(self, key: Any, descending: bool) -> Part:
        if key is not None and not isinstance(key, str) and not callable(key):
            raise wrong_option(
                self.label, "key", f"{short(key)} is no key", "give a function of a record, the name of a column, or a "
                "list of these"
            )  # fmt: skip
        if isinstance(key, str):
            return Part(key, row_key(key, self.label), descending)
        return Part("", key, descending)

    @property
    def by_columns(self) -> bool:
        """Whether arrays and Arrow batches can be ordered by their columns, without a look at single records."""
        return self._wrap is None and (all(self.columns) or (len(self.parts) == 1 and self.parts[0].function is None))

    @property
    def is_natural(self) -> bool:
        """Whether keys themselves are compared."""
        return self._wrap is None

    @property
    def key_of(self) -> Callable[[Any], Any] | None:
        """The function from a record to its key, a tuple where there are several; None for the record itself."""
        functions = [part.function for part in self.parts]
        if len(functions) == 1:
            return functions[0]
        return lambda record: tuple(record if one is None else one(record) for one in functions)

    # -- keys of lists ---------------------------------------------------------------------------------------------

    def keys(self, batch: Iterable[Any], part: Part) -> list[Any]:
        """The keys of records.

        :raises UserCodeError: the function raised.
        """
        if part.function is None:
            return batch if isinstance(batch, list) else list(batch)
        found: list[Any] = []
        record: Any = None
        function, add = part.function, found.append
        try:
            for record in batch:
                add(function(record))
        except Exception as error:
            raise user_error(error, "key function", self.label, -1, record) from error
        return found

    def raw(self, batch: Batch) -> list[Any]:
        """The keys of records, as they travel in samples: tuples where there are several."""
        rows = batch if isinstance(batch, list) else list(records(batch))
        columns = [self.keys(rows, part) for part in self.parts]
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

    def rank(self, raw: Any) -> Any:
        """What is compared of a key: ascending in any case, and nothing is missing."""
        if len(self.parts) == 1:
            return self._rank(raw, self.parts[0].descending)
        return tuple(self._rank(key, part.descending) for key, part in zip(raw, self.parts, strict=True))

    def _rank(self, key: Any, descending: bool) -> tuple[Any, ...]:
        missing = _missing(key)
        if missing:
            return (missing,)
        if self._wrap is not None:
            key = self._wrap(key)
        return _THERE, _Down(key) if descending else key

    def positions(self, rows: list[Any], tags: Any = None) -> list[int]:
        """The positions of records in order. :param tags: integers that decide between equal keys."""
        order = list(range(len(rows)))
        try:
            if tags is not None:
                order.sort(key=tags.__getitem__)
            for part in reversed(self.parts):
                order = self._sorted(order, self.keys(rows, part), part.descending)
        except Exception as error:
            raise self.blamed(error) from error
        return order

    def _sorted(self, order: list[int], keys: list[Any], descending: bool) -> list[int]:
        lost: list[list[int]] = [[], []]
        if not _is_whole(keys):
            missing = list(map(_missing, keys))
            if any(missing):
                lost = [[at for at in order if missing[at] == kind] for kind in (_NAN, _NONE)]
                order = [at for at in order if not missing[at]]
        wrap = self._wrap
        look = keys.__getitem__ if wrap is None else (lambda at: wrap(keys[at]))
        order.sort(key=look, reverse=descending)
        return order + lost[0] + lost[1]

    def in_order(self, rows: list[Any]) -> list[Any]:
        """Records in order."""
        part = self.parts[0]
        try:
            if len(self.parts) == 1 and part.function is None and self._wrap is None and _is_whole(rows):
                return sorted(rows, reverse=part.descending)
        except Exception as error:
            raise self.blamed(error) from error
        return list(map(rows.__getitem__, self.positions(rows)))

    def blamed(self, error: Exception) -> Exception:
        """What a failed comparison means."""
        return not_compared(error, self.label, "comparator" if self._wrap else "order of keys")


def _missing(key: Any) -> int:
    if key is None:
        return _NONE
    return _THERE if _equals_itself(key) else _NAN


def _equals_itself(key: Any) -> bool:
    same = key == key
    return same if isinstance(same, bool) else bool(same)


def _is_whole(keys: list[Any]) -> bool:
    """Whether there can be nothing missing among keys, by their types."""
    kinds = set(map(type, keys))
    if kinds <= _WHOLE:
        return True
    if kinds == {float}:
        return not any(map(_is_nan, keys))
    return kinds == {tuple} or not any(map(_missing, keys))


def _is_nan(key: float) -> bool:
    return key != key
