"""Selectors: which target a record goes to."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_records, records
from twister2.spec.errors import KeyHashError, OperatorError, Twister2Error
from twister2.spec.hashing import N_KEY_GROUPS, stable_hash
from twister2_net.problems import no_hash, no_order, no_pair, short, user_error, wrong_option

Key = Callable[[Any], Any]
_REMEMBERED = 1 << 17
_NAMES = ("hash", "round_robin", "range")


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
    """Key to target, remembered; equal keys have equal hashes, so equality is enough."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def __missing__(self, key: Any) -> int:
        target = (stable_hash(key) % N_KEY_GROUPS) * self.n // N_KEY_GROUPS
        if len(self) >= _REMEMBERED:
            self.clear()
        if key == key:
            self[key] = target
        return target


class Hash(Selector):
    """By the stable hash of the record's key: equal keys meet in one target."""

    def __init__(self, n: int, label: str, task: int, key: Key | None, columns: Sequence[str] = ()) -> None:
        super().__init__(n, label, task)
        self.key = key
        self.columns = columns
        self._targets = _KeyTargets(n)

    def assign(self, batch: Batch) -> Sequence[int]:
        keys: Iterable[Any]
        if is_arrow(batch):
            keys = arrow_keys(batch, self.columns, self.label)
        elif is_array(batch) and self.key is None and batch.ndim == 1 and batch.dtype.kind in "iub":
            targets: Sequence[int] = int_targets(batch, self.n)
            return targets
        elif self.key is None:
            keys = batch.tolist() if is_array(batch) and batch.ndim == 1 else records(batch)
        else:
            keys = map(self.key, records(batch))
        try:
            found = list(map(self._targets.__getitem__, keys))
        except Exception as error:
            raise self._found(batch, error) from error
        if len(found) != n_records(batch):
            # map() took a StopIteration of the key function for the end of the records
            raise self._found(batch, StopIteration())
        return found

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


def int_targets(keys: Any, n: int) -> Any:
    """Targets of an array of integers, the same as :class:`Hash` gives each of them."""
    import numpy

    prime = (1 << 61) - 1
    if keys.dtype.kind == "i":
        signed = keys.astype(numpy.int64)
        # the smallest int64 has no positive counterpart: go through unsigned numbers
        size = numpy.where(signed < 0, (~signed).astype(numpy.uint64) + numpy.uint64(1), signed.astype(numpy.uint64))
        rest = (size % numpy.uint64(prime)).astype(numpy.int64)
        hashed = numpy.where(signed < 0, -rest, rest)
        hashed = numpy.where(hashed == -1, -2, hashed).astype(numpy.uint64)
    else:
        hashed = keys.astype(numpy.uint64) % numpy.uint64(prime)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashed = hashed ^ (hashed >> numpy.uint64(33))
        hashed = hashed * numpy.uint64(factor)
    hashed = hashed ^ (hashed >> numpy.uint64(33))
    return ((hashed % numpy.uint64(N_KEY_GROUPS)).astype(numpy.int64) * n) // N_KEY_GROUPS


def arrow_keys(batch: Any, columns: Sequence[str], label: str) -> Iterable[Any]:
    """The values of the key columns of an Arrow batch, as tuples when there are several."""
    names = list(columns) or [batch.schema.names[0]]
    unknown = [name for name in names if name not in batch.schema.names]
    if unknown:
        raise OperatorError(
            f"{label} has no column {', '.join(map(repr, unknown))} to partition by",
            why=f"the batch has the columns {', '.join(batch.schema.names)}",
            remedy="name its key columns with the option 'columns'",
        )
    values = [batch.column(name).to_pylist() for name in names]
    return values[0] if len(values) == 1 else zip(*values, strict=True)


class RoundRobin(Selector):
    """In turn; source i begins with target i, so that small inputs spread too."""

    def __init__(self, n: int, label: str, task: int) -> None:
        super().__init__(n, label, task)
        self._next = task % n

    def assign(self, batch: Batch) -> Sequence[int]:
        count, first = n_records(batch), self._next
        self._next = (first + count) % self.n
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
        try:
            if self.columns:
                found = [bisect_right(bounds, value) for value in arrow_keys(batch, self.columns, self.label)]
            elif key is None:
                found = [bisect_right(bounds, record) for record in records(batch)]
            else:
                found = [bisect_right(bounds, key(record)) for record in records(batch)]
        except Exception as error:
            raise self._found(batch, error) from error
        return [last - target for target in found] if self.descending else found

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
        targets = []
        for record in records(batch):
            try:
                target = function(record, n)
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


PAIR_KEY = itemgetter(0)
"""The key of a (key, value) pair."""


def check_partitioner(partitioner: Any, label: str) -> None:
    """Whether an option ``partitioner`` can mean anything.

    :raises OperatorError: an unknown name, or nothing that can be called.
    """
    if isinstance(partitioner, str):
        if partitioner not in _NAMES:
            raise wrong_option(
                label, "partitioner", f"there is no selector {partitioner!r}", f"give one of {', '.join(_NAMES)}"
            )
    elif not callable(partitioner):
        raise wrong_option(
            label,
            "partitioner",
            f"{short(partitioner)} is neither a name nor a function",
            f"give one of {', '.join(_NAMES)}, or a function partitioner(record, n_targets)",
        )
