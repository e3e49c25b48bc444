"""Records of 100 bytes, ordered by their first ten: what the hand-written sorts and the check of their files share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RECORD = np.dtype([("prefix", ">u8"), ("suffix", ">u2"), ("rest", "V90")])
"""The key is prefix and suffix: as big-endian numbers they have the order of the bytes."""

Records = npt.NDArray[np.void]
Words = npt.NDArray[np.uint64]

_BLOCK = 1_000_000


def order(records: Records) -> npt.NDArray[np.intp]:
    """The positions of the records in the order of their keys."""
    prefix = records["prefix"].astype(np.uint64)  # the machine's own order of bytes, which sorts faster
    found: npt.NDArray[np.intp] = np.argsort(prefix)
    prefix = prefix[found]
    if (prefix[1:] == prefix[:-1]).any():  # the suffix decides; rare among random keys
        found = np.lexsort((records["suffix"], records["prefix"]))
    return found


def by_range(records: Records, n: int) -> list[Records]:
    """The records of each of ``n`` equal ranges of keys, for keys that are spread evenly."""
    target = (records["prefix"] >> np.uint64(48)) * np.uint64(n) >> np.uint64(16)
    return [records.take(np.flatnonzero(target == one)) for one in range(n)]


def in_order(records: Records) -> bool:
    """Whether each record is at least as large as the one before it."""
    prefix, suffix = records["prefix"].astype(np.uint64), records["suffix"].astype(np.uint16)
    above = prefix[1:] > prefix[:-1]
    return bool((above | ((prefix[1:] == prefix[:-1]) & (suffix[1:] >= suffix[:-1]))).all())


def checksum(records: Records) -> int:
    """A number made of all bytes that does not depend on the order of the records: a hash of each, summed."""
    total = 0
    for begin in range(0, len(records), _BLOCK):
        words = np.ascontiguousarray(records[begin : begin + _BLOCK]).view("<u4").reshape(-1, RECORD.itemsize // 4)
        hashes = np.full(len(words), 0xCBF29CE484222325, np.uint64)
        for column in words.T:
            hashes = (hashes ^ column) * np.uint64(0x100000001B3)
            hashes ^= hashes >> np.uint64(32)
        total += int(hashes.sum(dtype=np.uint64))
    return total % 2**64


# -- the same as columns, for systems that sort tables ----------------------------------------------------------------

_SIGN = np.uint64(1 << 63)


def columns(records: Records) -> dict[str, npt.NDArray[np.generic]]:
    """Key and rest as columns: integers with a sign that have the order of the keys, and 90 bytes."""
    prefix = (records["prefix"].astype(np.uint64) ^ _SIGN).view(np.int64)
    return {"prefix": prefix, "suffix": records["suffix"].astype(np.int32), "rest": records["rest"].copy()}


def from_columns(prefix: npt.NDArray[np.int64], suffix: npt.NDArray[np.int32], rest: bytes | memoryview) -> Records:
    """The records of such columns; ``rest`` are the 90 bytes of all, one after the other."""
    found = np.empty(len(prefix), RECORD)
    found["prefix"] = prefix.view(np.uint64) ^ _SIGN
    found["suffix"] = suffix
    found["rest"] = np.frombuffer(rest, "V90")
    return found
