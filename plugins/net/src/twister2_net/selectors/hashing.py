"""By hash: the targets of keys, computed at once for texts and columns of numbers, remembered for others."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from twister2.spec.array_hashing import tasks_of_array, tasks_of_texts
from twister2.spec.batch import Batch, is_array, n_records, records
from twister2.spec.errors import KeyHashError, Twister2Error
from twister2.spec.hashing import N_KEY_GROUPS, stable_hash, tasks_of_keys
from twister2_net.problems import no_hash, no_pair, user_error
from twister2_net.selectors.base import Key, Selector
from twister2_net.selectors.key_columns import PAIR_KEY, array_column, arrow_column, by_columns, distinct_rows
from twister2_net.spilling.sorted_columns import described, unusable_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_REMEMBERED = 1 << 17
"""Keys whose targets are remembered, for each number of targets."""

_KNOWN = 8
"""Numbers of targets for which there are such memories."""

_SMALL = 256
"""Longest text that is remembered; most targets that fit a byte."""

_FEW = 8
"""Longest tuple that is remembered."""

_FINE = ("ns", "ps", "fs", "as")
"""Units of times that Python has no objects for."""

_NUMBERS = (int, float)
_TEXTS = (str, bytes)
_WORTH = 64
"""Keys from which on an array is worth making."""


class _KeyTargets(dict[Any, int]):
    """Key to target, remembered; equal keys have equal hashes, so equality is enough.

    Small texts, bytes, numbers and short tuples of these are remembered for the operators that come later; other keys
    are not kept alive.
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
        kind = type(keys[0]) if len(keys) >= _WORTH else None
        if kind in _TEXTS and list(map(type, keys)).count(kind) == len(keys):
            return tasks_of_texts(keys, self.n)
        found: list[Any] = list(map(self.get, keys))
        if None in found:
            unknown = {key for key, target in zip(keys, found, strict=True) if target is None}
            if len(unknown) > _REMEMBERED:
                found = tasks_of_keys(keys, self.n)  # they would drive each other out
            else:
                self._learn(unknown)
                found = list(map(self.__getitem__, keys))
        if self.n > _SMALL:
            return found
        import numpy

        return numpy.frombuffer(bytes(found), numpy.uint8)

    def _learn(self, keys: set[Any]) -> None:
        if len(self) + len(keys) > _REMEMBERED:
            self.clear()
        some = [
            key
            for key in keys
            if _is_small(key) or (type(key) is tuple and len(key) <= _FEW and all(map(_is_small, key)))
        ]
        some = some[:_REMEMBERED]
        self.update(zip(some, tasks_of_keys(some, self.n), strict=True))


def _is_small(key: Any) -> bool:
    """Whether it takes little to remember a key; not NaN, which is never found again."""
    return (type(key) in _NUMBERS and key == key) or (type(key) in _TEXTS and len(key) <= _SMALL)


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
        several = distinct_rows(batch, self.columns) if len(self.columns) > 1 and n_records(batch) >= _WORTH else None
        if several is not None:
            return self._of_keys(batch, *several)
        if by_columns(batch, self.key, self.columns):
            return self._of_keys(batch, *arrow_column(batch, self.columns, self.label))
        if is_array(batch):
            column = array_column(batch, self.key, self.columns, self.label)
            if column is not None:
                return self._of_keys(batch, self._as_arrow_has_them(batch, column), None)
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

    def _as_arrow_has_them(self, batch: Any, keys: Any) -> Any:
        """The keys of an array; times in a named column that numpy gives as numbers are hashed as those of Arrow, to
        microseconds: rows that lie by a column do so whatever they become next.
        """
        kind = batch.dtype[self.columns[0]] if batch.dtype.names and len(self.columns) == 1 else batch.dtype
        if not self.columns or kind.kind not in "mM":
            return keys
        import numpy

        if numpy.datetime_data(kind)[0] not in _FINE:
            return keys
        found: list[Any] = batch[self.columns[0]].astype(f"{kind.kind}8[us]").tolist()
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
        if by_columns(batch, self.key, self.columns):
            if isinstance(error, KeyHashError):
                return error
            names = list(self.columns) or batch.schema.names[:1]
            return unusable_keys(self.label, "partition", described(batch, names), error)
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
                error = no_hash(self.label, self.task, key, raised)
                if self.key is None:
                    error.remedy = (
                        "give key=..., a column or a function; or the partitioner 'round_robin', without keys"
                    )
                return error
        return user_error(error, "key", self.label, self.task, batch)
