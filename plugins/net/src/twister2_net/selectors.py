"""Selectors: which target a record goes to."""

from __future__ import annotations

import itertools
import struct
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twister2.spec.array_hashing import tasks_of_array
from twister2.spec.batch import Batch, is_array, is_arrow, n_records, records
from twister2.spec.errors import KeyHashError, OperatorError, Twister2Error
from twister2.spec.hashing import N_KEY_GROUPS, stable_hash, tasks_of_keys
from twister2_net.key_columns import PAIR_KEY, array_column, arrow_column, arrow_keys
from twister2_net.problems import no_hash, no_order, no_pair, short, user_error, wrong_option

Key = Callable[[Any], Any]
_REMEMBERED = 1 << 17
"""Keys whose targets are remembered, for each number of targets."""

_KNOWN = 8
"""Numbers of targets for which there are such memories."""

_SMALL = 256
"""Longest text that is remembered; most targets that fit a byte."""

_NUMBERS = (int, float)
_TEXTS = (str, bytes)
_WORTH = 64
"""Keys from which on an array is worth making."""

NAMES = ("hash", "round_robin", "range", "skew")

KEYED_NAMES = ("hash", "range")
"""Selectors that bring all records of a key to one target."""


class Selector(ABC):
    """Chooses targets for the records of one local source.

    :param n: number of targets. :param label, task: for messages.
    """

    def __init__(self, n: int, label: str, task: int) -> None:
        self.n = n
        self.label = label
        self.task = task

    @abstractmethod
    def assign(self, batch: Batch) -> Sequence[int]:
        """One target per record; an array of integers for arrays where that is faster."""


class _KeyTargets(dict[Any, int]):
    """Key to target, remembered; equal keys have equal hashes, so equality is enough.

    Small texts, bytes and numbers are remembered for the operators that come later; other keys are not kept alive.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def __missing__(self, key: Any) -> int:
        return (stable_hash(key) % N_KEY_GROUPS) * self.n // N_KEY_GROUPS

    def of(self, keys: list[Any]) -> Any:
        """The targets of keys, as a list or, for up to 256 targets, as an array.

        :raises TypeError: a key that cannot be hashed. :raises KeyHashError: one that has no stable hash.
        """
        found: list[Any] = list(map(self.get, keys))
        if None in found:
            self._learn({key for key, target in zip(keys, found, strict=True) if target is None})
            found = list(map(self.__getitem__, keys))
        if self.n > _SMALL:
            return found
        import numpy

        return numpy.frombuffer(bytes(found), numpy.uint8)

    def _learn(self, keys: set[Any]) -> None:
        if len(self) + len(keys) > _REMEMBERED:
            self.clear()
        some = [key for key in keys if type(key) in _NUMBERS or (type(key) in _TEXTS and len(key) <= _SMALL)]
        some = [key for key in some if key == key]  # not NaN, which is never found again
        some = some[:_REMEMBERED]
        self.update(zip(some, tasks_of_keys(some, self.n), strict=True))


_known: dict[int, _KeyTargets] = {}


def key_targets(n: int) -> _KeyTargets:
    """What is remembered for a number of targets."""
    known = _known.get(n)
    if known is None:
        if len(_known) >= _KNOWN:
            _known.clear()
        known = _known[n] = _KeyTargets(n)
    return known


class Hash(Selector):
    """By the stable hash of the record's key: equal keys meet in one target. Columns of numbers are hashed as a whole.

    :param key: function from record to key, or None for the record itself. :param columns: key columns of Arrow batches
        and of structured arrays; their first one when empty.
    """

    def __init__(self, n: int, label: str, task: int, key: Key | None, columns: Sequence[str] = ()) -> None:
        super().__init__(n, label, task)
        self.key = key
        self.columns = columns
        self._targets = key_targets(n)

    def assign(self, batch: Batch) -> Sequence[int]:
        targets: Sequence[int] = self._assign(batch)
        return targets

    def _assign(self, batch: Batch) -> Any:
        if is_arrow(batch):
            return self._of_keys(batch, *arrow_column(batch, self.columns, self.label))
        if is_array(batch):
            column = array_column(batch, self.key, self.columns, self.label)
            if column is not None:
                return self._of_keys(batch, column, None)
        keys: Iterable[Any] = records(batch) if self.key is None else map(self.key, records(batch))
        if is_array(batch) and self.key is None and batch.ndim == 1:
            keys = batch.tolist()
        try:
            keys = list(keys)
            found = self._whole(keys)
            if found is None:
                found = self._targets.of(keys)
        except Exception as error:
            raise self._found(batch, error) from error
        if len(found) != n_records(batch):
            # map() took a StopIteration of the key function for the end of the records
            raise self._found(batch, StopIteration())
        return found

    def _whole(self, keys: list[Any]) -> Any:
        """The targets of keys that are all ints or all floats, without a loop; None for others."""
        if len(keys) < _WORTH:
            return None
        kind = type(keys[0])
        if kind not in _NUMBERS or list(map(type, keys)).count(kind) != len(keys):
            return None
        import numpy

        try:
            packed = struct.pack(f"{len(keys)}{'q' if kind is int else 'd'}", *keys)
        except struct.error:  # an int of more than 64 bits
            return None
        return tasks_of_array(numpy.frombuffer(packed, numpy.int64 if kind is int else numpy.float64), self.n)

    def _of_keys(self, batch: Batch, column: Any, codes: Any) -> Any:
        """Targets of a column: an array of numbers, or a list of keys; ``codes``: positions in that list by record."""
        if not isinstance(column, list):
            return tasks_of_array(column, self.n)
        try:
            found = self._targets.of(column)
        except Exception as error:
            raise self._found(batch, error) from error
        if codes is None:
            return found
        import numpy

        return numpy.asarray(found)[codes]

    def _found(self, batch: Batch, error: Exception) -> Twister2Error:
        """The record that made trouble, by trying one after the other."""
        for record in records(batch):
            try:
                key = record if self.key is None else self.key(record)
            except Exception as raised:
                if self.key is PAIR_KEY:
                    return no_pair(self.label, self.task, record)
                return user_error(raised, "key function", self.label, self.task, record)
            try:
                self._targets[key]
            except KeyHashError as raised:
                return raised
            except Exception as raised:
                return no_hash(self.label, self.task, key, raised)
        return user_error(error, "key", self.label, self.task, batch)


class RoundRobin(Selector):
    """In turn; source i begins with target i, so that small inputs spread too."""

    def __init__(self, n: int, label: str, task: int) -> None:
        super().__init__(n, label, task)
        self._next = task % n

    def assign(self, batch: Batch) -> Sequence[int]:
        count, first = n_records(batch), self._next
        self._next = (first + count) % self.n
        if is_array(batch) or is_arrow(batch):
            import numpy

            spread: Any = numpy.arange(first, first + count) % self.n
            targets: Sequence[int] = spread
            return targets
        return list(itertools.islice(itertools.cycle([*range(first, self.n), *range(first)]), count))


class Range(Selector):
    """By sorted bounds: target i takes keys from ``bounds[i - 1]`` (included) to ``bounds[i]`` (excluded)."""

    def __init__(
        self, n: int, label: str, task: int, key: Key | None, bounds: Sequence[Any], columns: Sequence[str] = ()
    ) -> None:
        super().__init__(n, label, task)
        self.key = key
        self.columns = columns
        self.descending = False
        self.bounds = bounds

    def assign(self, batch: Batch) -> Sequence[int]:
        bounds, key, last = self.bounds, self.key, self.n - 1
        column = self._column(batch)
        whole = self._whole(column)
        if whole is not None:
            return last - whole if self.descending else whole  # type: ignore[no-any-return]
        try:
            if column is not None:
                values = column if isinstance(column, list) else column.tolist()
                found = [bisect_right(bounds, value) for value in values]
            elif self.columns and is_arrow(batch):
                found = [bisect_right(bounds, value) for value in arrow_keys(batch, self.columns, self.label)]
            elif key is None:
                found = [bisect_right(bounds, record) for record in records(batch)]
            else:
                found = [bisect_right(bounds, key(record)) for record in records(batch)]
        except Exception as error:
            raise self._found(batch, error) from error
        return [last - target for target in found] if self.descending else found

    def _column(self, batch: Batch) -> Any:
        """The keys as an array of numbers or a list of values; None when records must be looked at one by one."""
        if is_array(batch):
            return array_column(batch, self.key, self.columns, self.label)
        if self.columns and is_arrow(batch):
            column, _ = arrow_column(batch, self.columns, self.label)
            return None if isinstance(column, list) else column
        return None

    def _whole(self, column: Any) -> Any:
        """The targets of a column of numbers, without a loop; None for others."""
        if column is None or isinstance(column, list):
            return None
        import numpy

        bounds = numpy.asarray(self.bounds)
        if not len(bounds):
            return numpy.zeros(len(column), numpy.int64)
        if bounds.dtype.kind == "i" and column.dtype.kind == "u":
            bounds = numpy.maximum(bounds, 0).astype(numpy.uint64)  # no key lies below 0
        elif bounds.dtype.kind != column.dtype.kind:
            return None  # numpy would compare as floats what Python compares exactly
        return numpy.searchsorted(bounds, column, side="right")

    def _found(self, batch: Batch, error: Exception) -> Twister2Error:
        """The record that made trouble, by trying one after the other."""
        for record in records(batch):
            try:
                key = record if self.key is None else self.key(record)
            except Exception as raised:
                return user_error(raised, "key function", self.label, self.task, record)
            try:
                bisect_right(self.bounds, key)
            except TypeError as raised:
                return no_order(self.label, raised)
            except Exception as raised:
                return user_error(raised, "order of keys", self.label, self.task, record)
        return user_error(error, "order of keys", self.label, self.task, batch)


class Custom(Selector):
    """By a function ``partitioner(record, n_targets) -> int`` of the user's."""

    def __init__(self, n: int, label: str, task: int, function: Callable[[Any, int], int]) -> None:
        super().__init__(n, label, task)
        self.function = function

    def assign(self, batch: Batch) -> Sequence[int]:
        n, function = self.n, self.function
        return self._each(batch, lambda record: function(record, n))

    def _each(self, batch: Batch, choose: Callable[[Any], Any]) -> list[int]:
        n = self.n
        targets = []
        for record in records(batch):
            try:
                target = choose(record)
            except Exception as error:
                raise user_error(error, "partitioner", self.label, self.task, record) from error
            if type(target) is not int:
                target = self._as_index(target, record)
            if not 0 <= target < n:
                raise self._wrong(target, record, f"there are {n} targets")
            targets.append(target)
        return targets

    def _as_index(self, target: Any, record: Any) -> int:
        if isinstance(target, bool) or not hasattr(target, "__index__"):
            raise self._wrong(target, record, f"a {type(target).__name__} is no index")
        return int(target)

    def _wrong(self, target: Any, record: Any, why: str) -> OperatorError:
        return OperatorError(
            f"the partitioner of {self.label} returned {short(target)} for {short(record)}",
            why=why,
            remedy=f"return an int from 0 to {self.n - 1}",
            where=f"{self.label}, task {self.task}",
            details={"record": short(record)},
        )


class TwoPhase(Custom):
    """By an object of the user's with ``prepare``, ``next`` and ``commit``.

    ``prepare(n_targets, source)`` is called once for each local source and returns the object that chooses for it
    (None: the object itself); ``next(record) -> int`` for every record of a batch, and ``commit()`` once the batch was
    taken. A batch that is refused for lack of room is not looked at: it is offered again, and begins where the last one
    that was committed ended.
    """

    def __init__(self, n: int, label: str, task: int, chooser: Any) -> None:
        super().__init__(n, label, task, chooser.next)
        try:
            self._chooser = chooser.prepare(n, task) or chooser
        except Exception as error:
            raise user_error(error, "partitioner's prepare", label, task, n) from error

    def assign(self, batch: Batch) -> Sequence[int]:
        targets = self._each(batch, self._chooser.next)
        try:
            self._chooser.commit()
        except Exception as error:
            raise user_error(error, "partitioner's commit", self.label, self.task, len(targets)) from error
        return targets


def is_two_phase(partitioner: Any) -> bool:
    """Whether a partitioner is an object with prepare, next and commit."""
    return all(callable(getattr(partitioner, name, None)) for name in ("prepare", "next", "commit"))


def check_partitioner(partitioner: Any, label: str, names: Sequence[str] = NAMES) -> None:
    """Whether an option ``partitioner`` can mean anything.

    :param names: the selectors that the operator takes.

    :raises OperatorError: an unknown name, or nothing that can be called.
    """
    if isinstance(partitioner, str):
        if partitioner not in names:
            why = "it would spread a key over several targets" if partitioner in NAMES else "there is no such selector"
            raise wrong_option(label, "partitioner", f"{partitioner!r}: {why}", f"give one of {', '.join(names)}")
    elif not callable(partitioner) and not is_two_phase(partitioner):
        raise wrong_option(
            label,
            "partitioner",
            f"{short(partitioner)} is neither a name nor a function",
            f"give one of {', '.join(names)}, a function partitioner(record, n_targets), or an object with prepare, "
            "next and commit",
        )


__all__ = [
    "KEYED_NAMES",
    "NAMES",
    "PAIR_KEY",
    "Custom",
    "Hash",
    "Key",
    "Range",
    "RoundRobin",
    "Selector",
    "TwoPhase",
    "check_partitioner",
    "is_two_phase",
]
