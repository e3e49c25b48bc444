"""The stable hash of many keys at once, numpy arrays of numbers or texts: what :mod:`twister2.spec.hashing` gives each.

There is no loop of Python's per key. numpy is imported when a function is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from twister2.spec.hashing import N_KEY_GROUPS, stable_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHUNK = 1 << 14
"""Elements hashed at once: what is in between stays in the processor's cache."""

_PRIME = (1 << 61) - 1
_FACTORS = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)


def can_hash(dtype: Any) -> bool:
    """Whether arrays of this numpy dtype can be hashed: integers, booleans, and floats of up to 64 bits."""
    return dtype.kind in "iub" or (dtype.kind == "f" and dtype.itemsize <= 8)


def tasks_of_array(keys: Any, n_tasks: int) -> Any:
    """:func:`~twister2.spec.hashing.task_of_key` of each element of a one-dimensional array.

    :returns: an array of unsigned integers, as small as ``n_tasks`` allows.
    :raises TypeError: its dtype is not one that :func:`can_hash` takes.
    """
    import numpy

    if not can_hash(keys.dtype):
        raise TypeError(f"arrays of dtype {keys.dtype} have no stable hash")
    return _tasks(_hash, keys, n_tasks, numpy)


def tasks_of_texts(keys: Sequence[str] | Sequence[bytes], n_tasks: int) -> Any:
    """:func:`~twister2.spec.hashing.task_of_key` of each text, or of each ``bytes``: all of one type.

    :returns: as :func:`tasks_of_array`.
    """
    import numpy

    return _tasks(_hash_texts, keys, n_tasks, numpy)


def _tasks(into: Any, keys: Any, n_tasks: int, numpy: Any) -> Any:
    """The tasks of keys, chunk by chunk. :param into: hashes a chunk."""
    tasks = numpy.empty(
        len(keys), numpy.uint8 if n_tasks <= 256 else numpy.uint16 if n_tasks <= 65536 else numpy.uint32
    )
    size = min(len(keys), _CHUNK)
    hashed, scratch = numpy.empty(size, numpy.uint64), numpy.empty(size, numpy.uint64)
    for start in range(0, len(keys), _CHUNK):
        part = keys[start : start + _CHUNK]
        h, s = hashed[: len(part)], scratch[: len(part)]
        into(part, h, s, numpy)
        numpy.bitwise_and(h, numpy.uint64(N_KEY_GROUPS - 1), out=h)
        numpy.multiply(h, numpy.uint64(n_tasks), out=h)
        numpy.right_shift(h, numpy.uint64(N_KEY_GROUPS.bit_length() - 1), out=h)
        tasks[start : start + _CHUNK] = h
    return tasks


def stable_hashes(keys: Any) -> Any:
    """:func:`~twister2.spec.hashing.stable_hash` of each element of a one-dimensional array, as uint64.

    :raises TypeError: its dtype is not one that :func:`can_hash` takes.
    """
    import numpy

    if not can_hash(keys.dtype):
        raise TypeError(f"arrays of dtype {keys.dtype} have no stable hash")
    hashed = numpy.empty(len(keys), numpy.uint64)
    scratch = numpy.empty(min(len(keys), _CHUNK), numpy.uint64)
    for start in range(0, len(keys), _CHUNK):
        part = keys[start : start + _CHUNK]
        _hash(part, hashed[start : start + _CHUNK], scratch[: len(part)], numpy)
    return hashed


def _hash(part: Any, h: Any, s: Any, numpy: Any) -> None:
    """The hashes of a chunk, into ``h``; ``s`` is room of the same size."""
    nan = None
    if part.dtype.kind == "f":
        nan = _floats(part, h, numpy)
    elif part.dtype.kind != "i":
        h[:] = part
        if part.dtype.itemsize == 8:
            numpy.remainder(h, numpy.uint64(_PRIME), out=h)
    else:
        low, high = int(part.min()), int(part.max())
        h.view(numpy.int64)[:] = part
        if low <= -_PRIME or high >= _PRIME:
            _large(h.view(numpy.int64), numpy)
        if low < 0:
            _no_minus_one(h.view(numpy.int64))
    _mix(h, s, numpy)
    if nan is not None:
        h[nan] = stable_hash(float("nan"))


def _hash_texts(part: Any, h: Any, s: Any, numpy: Any) -> None:
    """The same, of texts or bytes."""
    texts = map(str.encode, part) if isinstance(part[0], str) else part
    try:
        h[:] = numpy.fromiter(map(crc32, texts), numpy.uint64, len(part))
    except UnicodeEncodeError:  # half a surrogate pair
        h[:] = [crc32(text.encode("utf-8", "surrogatepass")) for text in part]
    _mix(h, s, numpy)


def _mix(h: Any, s: Any, numpy: Any) -> None:
    """The mixing of :mod:`twister2.spec.hashing`, in place; ``s`` is room of the same size."""
    shift = numpy.uint64(33)
    for factor in _FACTORS:
        numpy.right_shift(h, shift, out=s)
        numpy.bitwise_xor(h, s, out=h)
        numpy.multiply(h, numpy.uint64(factor), out=h)
    numpy.right_shift(h, shift, out=s)
    numpy.bitwise_xor(h, s, out=h)


def _no_minus_one(h: Any) -> None:
    """Python's hash is never -1."""
    h[h == -1] = -2


def _large(h: Any, numpy: Any) -> None:
    """The remainders of integers by the prime, with their signs, in place."""
    # the smallest int64 has no positive counterpart: go through unsigned numbers
    negative = h < 0
    size = numpy.where(negative, (~h).view(numpy.uint64) + numpy.uint64(1), h.view(numpy.uint64))
    rest = (size % numpy.uint64(_PRIME)).astype(numpy.int64)
    h[:] = numpy.where(negative, -rest, rest)


def _floats(part: Any, h: Any, numpy: Any) -> Any:
    """Python's hash of floats, into ``h``; where there is NaN, or None when there is none."""
    wide = part.astype(numpy.float64)
    nan, infinite = numpy.isnan(wide), numpy.isinf(wide)
    wide[nan | infinite] = 0.0
    fraction, exponent = numpy.frexp(numpy.abs(wide))
    whole = (fraction * float(1 << 53)).astype(numpy.uint64)
    # whole * 2**(exponent - 53) by a prime 2**61 - 1: a rotation of 61 bits
    turn = ((exponent.astype(numpy.int64) - 53) % 61).astype(numpy.uint64)
    prime, bits = numpy.uint64(_PRIME), numpy.uint64(61)
    turned = ((whole << turn) & prime) | (whole >> (bits - turn))
    signed = h.view(numpy.int64)
    signed[:] = turned
    numpy.negative(signed, where=wide < 0, out=signed)
    _no_minus_one(signed)
    if infinite.any():
        signed[infinite] = numpy.where(part[infinite] > 0, 314159, -314159)
    return nan if nan.any() else None


__all__ = ["can_hash", "stable_hashes", "tasks_of_array", "tasks_of_texts"]
