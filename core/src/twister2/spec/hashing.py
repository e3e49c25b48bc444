"""The stable hash of keys: the same in every process, on every machine, in every release with the same version.

Equal keys have equal hashes across types where Python says they are equal: ``1 == 1.0 == True == numpy.int64(1)``.
A key is placed in two steps, key -> key group -> task, so that keyed state can move to another number of tasks without
re-hashing keys. The built-in ``hash`` is never used: it differs between processes for ``str`` and ``bytes``.

Numbers are hashed as ``x mod (2**61 - 1)`` (the rule of Python's numeric hash, documented under "Hashing of numeric
types", which is not randomised), text (as UTF-8) and bytes by their CRC-32 (RFC 1952), mixed, which costs a tenth of a
microsecond, tuples by mixing their parts. Different keys may have one hash: a hundred pairs among a million texts do.
Whoever wants to can choose keys that meet in one task.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import fractions
import sys
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

from twister2.spec.errors import KeyHashError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HASH_VERSION = 2
"""Of the hashes: what lies by key with one version is not found with another."""

N_KEY_GROUPS = 32768
"""Number of key groups: fixed, so that state written by M tasks can be read by N."""

_MASK = (1 << 64) - 1
_SHORT = 256
"""Texts up to this length are remembered with their hashes; longer ones would keep much memory."""

_WORTH = 64
"""Texts from which on an array of their tasks is worth making."""

_registered: dict[type, Callable[[Any], Any]] = {}


def _mix(x: int) -> int:
    """The finaliser of MurmurHash3 (public domain, Austin Appleby): spreads every input bit over all output bits."""
    x &= _MASK
    x = ((x ^ (x >> 33)) * 0xFF51AFD7ED558CCD) & _MASK
    x = ((x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53) & _MASK
    return x ^ (x >> 33)


def _hash_str(key: str) -> int:
    return _hash_short_str(key) if len(key) <= _SHORT else _hash_any_str(key)


def _hash_any_str(key: str) -> int:
    return _hash_bytes(key.encode("utf-8", "surrogatepass"))


_hash_short_str = lru_cache(maxsize=1 << 16)(_hash_any_str)


def _hash_bytes(key: bytes | bytearray | memoryview) -> int:
    return _mix(crc32(key))


def _hash_sequence(seed: int, parts: Any) -> int:
    value = seed
    for part in parts:
        value = _mix(value * 31 + stable_hash(part))
    return value


_NONE, _NAN, _TUPLE, _FROZENSET, _DATE = (_mix(seed) for seed in range(101, 106))


def stable_hash(key: Any) -> int:
    """An unsigned 64-bit hash of ``key``.

    Known are ``None``, numbers (numpy's, ``Decimal`` and ``Fraction`` included), ``str``, ``bytes``, tuples and
    frozensets of these, dates, UUIDs, enum members, and types given to :func:`register_key`. NaN hashes to one value,
    so that NaN keys meet in one task (they are still unequal there).

    :raises KeyHashError: for any other type: its equality is unknown, so equal keys could land on different tasks.
    """
    kind = type(key)
    if kind is str:
        return _hash_str(key)
    if kind is int or kind is bool:
        return _mix(hash(key))
    if kind is float:
        return _mix(hash(key)) if key == key else _NAN
    if kind is tuple:
        return _hash_sequence(_TUPLE, key)
    if key is None:
        return _NONE
    return _hash_other(key, kind)


def _hash_other(key: Any, kind: type) -> int:  # noqa: PLR0911 - one for each kind of key
    if kind in _registered:
        return _mix(stable_hash(_registered[kind](key)) + 1)
    if isinstance(key, str):
        return _hash_str(str.__str__(key))  # not str(key): members of enums write their names
    if isinstance(key, (bytes, bytearray, memoryview)):
        return _hash_bytes(key)
    if isinstance(key, (int, float, complex, decimal.Decimal, fractions.Fraction)):
        return _mix(hash(key)) if key == key else _NAN
    if isinstance(key, tuple):
        return _hash_sequence(_TUPLE, key)
    if isinstance(key, frozenset):
        return _mix(sum(stable_hash(part) for part in key) + _FROZENSET)
    if isinstance(key, (datetime.date, datetime.time, datetime.timedelta)):
        return _hash_date(key)
    if isinstance(key, uuid.UUID):
        return _mix(key.int ^ (key.int >> 64))
    if isinstance(key, enum.Enum):  # last: members that are numbers or text too equal those
        return _hash_sequence(_TUPLE, (kind.__qualname__, key.name))
    numpy = sys.modules.get("numpy")
    scalar = getattr(numpy, "generic", ())  # another thread may be in the middle of importing it
    if numpy is not None and isinstance(key, scalar) and not isinstance(key, numpy.void):
        return _hash_numpy(key, numpy)
    raise KeyHashError(
        f"a key of type {kind.__module__}.{kind.__qualname__} has no stable hash",
        why="equal keys must reach the same task, and how values of this type compare is not known here",
        remedy="use a number, str, bytes or a tuple of these as key, or call twister2.register_key(type, key_function)",
        where=f"key {_short(key)}",
    )


def _hash_numpy(key: Any, numpy: Any) -> int:
    if isinstance(key, numpy.datetime64):
        key = key.astype("datetime64[us]")  # times are equal whatever their units
    elif isinstance(key, numpy.timedelta64):
        key = key.astype("timedelta64[us]")
    value = key.item()
    if isinstance(value, numpy.generic):  # long doubles stay what they are
        return _mix(hash(value)) if value == value else _NAN
    return stable_hash(value)


def _hash_date(key: Any) -> int:
    if isinstance(key, datetime.timedelta):
        return _hash_sequence(_DATE, (key.days, key.seconds, key.microseconds))
    if isinstance(key, (datetime.datetime, datetime.time)) and key.tzinfo is not None:
        offset = key.utcoffset()
        if isinstance(key, datetime.datetime):
            key = key.astimezone(datetime.UTC).replace(tzinfo=None)
        else:
            return _hash_sequence(_DATE, (key.replace(tzinfo=None).isoformat(), offset or datetime.timedelta()))
    return _hash_sequence(_DATE, (key.isoformat(),))


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def register_key(kind: type, key_function: Callable[[Any], Any]) -> None:
    """Let values of ``kind`` be keys: ``key_function(value)`` gives a tuple, number or text that is equal for equal
    values.

    Call it on every worker (at import of the module that defines the type), before the first keyed operator.
    """
    _registered[kind] = key_function


def key_group(key: Any) -> int:
    """The key group of ``key``, 0 to ``N_KEY_GROUPS - 1``."""
    return stable_hash(key) % N_KEY_GROUPS


def task_of_key_group(group: int, n_tasks: int) -> int:
    """The task that owns a key group: contiguous ranges of groups whose sizes differ by at most one."""
    return group * n_tasks // N_KEY_GROUPS


def tasks_of_keys(keys: Iterable[Any], n_tasks: int) -> list[int]:
    """:func:`task_of_key` of each key; for many texts at once, faster than one by one."""
    keys = keys if isinstance(keys, list) else list(keys)
    if len(keys) >= _WORTH and set(map(type, keys)) in ({str}, {bytes}):
        with contextlib.suppress(ModuleNotFoundError):  # the core does not require numpy
            from twister2.spec.array_hashing import tasks_of_texts

            found: list[int] = tasks_of_texts(keys, n_tasks).tolist()
            return found
    return [value % N_KEY_GROUPS * n_tasks // N_KEY_GROUPS for value in map(stable_hash, keys)]


def task_of_key(key: Any, n_tasks: int) -> int:
    """The task, 0 to ``n_tasks - 1``, that owns ``key``."""
    return (stable_hash(key) % N_KEY_GROUPS) * n_tasks // N_KEY_GROUPS
