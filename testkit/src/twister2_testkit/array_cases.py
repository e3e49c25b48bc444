"""Collective calls on arrays with their right answers by numpy, for any number of members.

Values are small whole numbers, so that sums and products are exact in every dtype and in every order, or letters.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from twister2.spec.collectives import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

UFUNCS = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "band": np.bitwise_and,
    "bor": np.bitwise_or,
    "bxor": np.bitwise_xor,
}
COUNTED = ("gather", "allgather", "scatter", "reduce_scatter", "alltoall")
"""Operations that take counts."""
REDUCTIONS = ("reduce", "allreduce", "scan", "exscan", "reduce_scatter")
_UNTOUCHED = 0x5A


@attrs.frozen
class Case:
    """One call of a group.

    :ivar n: elements of one member's part. :ivar counts: instead of ``n``: elements of each member's part; for alltoall
        each part is scaled by the receiver, so that all pairs differ.
    :ivar in_place: send None where the operation allows it. :ivar seed: of the values.
    """

    operation: str
    size: int
    n: int = 0
    dtype: str = "int64"
    op: str = "sum"
    root: int = 0
    counts: tuple[int, ...] | None = None
    in_place: bool = False
    algorithm: str = ""
    seed: int = 0

    def length(self, source: int, target: int) -> int:
        """Elements from one member to another, or of the part of ``source`` where all parts are of one member."""
        if self.counts is None:
            return self.n
        if self.operation == "alltoall":
            return self.counts[source] * (1 + target % 2)
        return self.counts[source]

    def given(self, rank: int) -> Any:
        """The array that a member contributes."""
        size = self.size
        if self.operation in ("scatter", "reduce_scatter"):
            n = sum(self.length(part, 0) for part in range(size))
        elif self.operation == "alltoall":
            n = sum(self.length(rank, target) for target in range(size))
        else:
            n = self.length(rank, 0)
        dtype = np.dtype(self.dtype)
        low, high = (0, 2) if dtype.kind == "b" else (1, 3) if self.op == "prod" else (0, 7)
        return _values(np.random.default_rng([self.seed, rank, n]), n, dtype, low, high)

    def call(self, rank: int) -> Call:
        """The call as this member makes it."""
        sent = received = None
        if self.counts is not None:
            size, operation = self.size, self.operation
            if operation in ("gather", "allgather", "reduce_scatter"):
                received = tuple(self.counts) if operation != "gather" or rank == self.root else ()
            elif operation == "scatter":
                sent = tuple(self.counts) if rank == self.root else ()
            else:
                sent = tuple(self.length(rank, target) for target in range(size))
                received = tuple(self.length(source, rank) for source in range(size))
        return Call(self.operation, self.op, self.root, sent, received, self.algorithm)

    def buffers(self, rank: int) -> tuple[Any, Any]:
        """Fresh ``send`` and ``receive`` of a member."""
        operation, at_root = self.operation, rank == self.root
        if operation == "barrier":
            return None, None
        given, want = self.given(rank), self.wanted(rank)
        if operation == "broadcast":
            return None, given.copy() if at_root else _fresh(len(want), self.dtype)
        if operation == "scatter" and not at_root:
            return None, _fresh(len(want), self.dtype)
        if want is None:
            return given, None
        if self.in_place and operation in ("reduce", "allreduce", "scan", "exscan"):
            return None, given.copy()
        return given, _fresh(len(want), self.dtype)

    def wanted(self, rank: int) -> Any:
        """What a member receives; None when it receives nothing."""
        operation, size = self.operation, self.size
        if operation == "barrier" or (operation in ("reduce", "gather") and rank != self.root):
            return None
        if operation == "broadcast":
            return self.given(self.root)
        if operation in ("gather", "allgather"):
            return np.concatenate([self.given(source) for source in range(size)])
        if operation == "scatter":
            return self._parts(self.given(self.root), [self.length(part, 0) for part in range(size)])[rank]
        if operation == "alltoall":
            parts = [
                self._parts(self.given(source), [self.length(source, target) for target in range(size)])[rank]
                for source in range(size)
            ]
            return np.concatenate(parts)
        return self._reduced(rank)

    def _reduced(self, rank: int) -> Any:
        if self.operation == "exscan" and rank == 0:
            return self.given(0) if self.in_place else _fresh(self.length(0, 0), self.dtype)
        total = self.given(0)
        for source in range(1, {"scan": rank + 1, "exscan": rank}.get(self.operation, self.size)):
            total = UFUNCS[self.op](total, self.given(source)).astype(self.dtype)
        if self.operation == "reduce_scatter":
            return self._parts(total, [self.length(part, 0) for part in range(self.size)])[rank]
        return total

    def check(self, rank: int, send: Any, receive: Any) -> None:
        """Compare what a member has after the call."""
        if self.operation == "barrier":
            return
        want = self.wanted(rank)
        if want is not None:
            # truth values by their bytes: numpy takes any but 0 for true
            got, want = (receive.view("u1"), want.view("u1")) if receive.dtype.kind == "b" else (receive, want)
            np.testing.assert_array_equal(got, want, err_msg=f"{self} on rank {rank}")
        if send is not None:
            np.testing.assert_array_equal(send, self.given(rank), err_msg=f"send of rank {rank} was changed by {self}")

    @staticmethod
    def _parts(array: Any, lengths: Sequence[int]) -> list[Any]:
        ends = list(accumulate(lengths))
        return [array[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _values(random: np.random.Generator, n: int, dtype: Any, low: int, high: int) -> Any:
    if dtype.names is not None:
        array = np.zeros(n, dtype)
        for name in dtype.names:
            array[name] = _values(random, n, dtype[name], low, high)
        return array
    if dtype.kind == "S":
        return random.integers(ord("a"), ord("z") + 1, (n, dtype.itemsize), np.uint8).view(dtype).reshape(n)
    numbers = random.integers(low, high, n)
    if dtype.kind == "c":
        return (numbers + 1j * random.integers(low, high, n)).astype(dtype)
    return numbers.astype(dtype)


def _fresh(n: int, dtype: str) -> Any:
    array = np.empty(n, dtype)
    # of these there are bytes that are no value, or none that is equal to itself
    array.view(np.uint8)[:] = 0 if array.dtype.char in "?gG" else _UNTOUCHED
    return array
