"""Algorithms that move data without changing it. Each is a generator that yields while it waits for a message.

``send`` and ``receive`` are flat arrays (None where the operation has none); counts are numbers of elements.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHUNK = 1 << 19
"""Bytes of one message of a pipelined algorithm."""

_NOTHING = np.empty(0, np.uint8)


def pieces(array: Any, nbytes: int = CHUNK) -> list[Any]:
    """Views of at most ``nbytes`` bytes, at least one."""
    step = max(1, nbytes // array.itemsize)
    return [array[at : at + step] for at in range(0, array.size, step)] or [array]


def blocks(array: Any, counts: Sequence[int]) -> list[Any]:
    """Views of ``counts`` elements each, one after another."""
    ends = list(accumulate(counts))
    return [array[end - count : end] for end, count in zip(ends, counts, strict=True)]


def barrier_dissemination(x: Any) -> Iterator[None]:
    """After k rounds everybody has heard, through others, of the 2^k before him."""
    distance = 1
    while distance < x.size:
        x.send((x.rank + distance) % x.size, _NOTHING)
        yield from x.into((x.rank - distance) % x.size, _NOTHING)
        distance *= 2


def tree_of(rank: int, size: int, root: int) -> tuple[int, list[int]]:
    """Binomial tree: the parent (-1 at the root) and the children of a rank, those with the largest subtrees first."""
    me = (rank - root) % size
    parent, bit = -1, 1
    while bit < size:
        if me & bit:
            parent = (me - bit + root) % size
            break
        bit *= 2
    children = []
    bit //= 2
    while bit:
        if me + bit < size:
            children.append((me + bit + root) % size)
        bit //= 2
    return parent, children


def broadcast_tree(x: Any, data: Any, root: int) -> Iterator[None]:
    """Binomial tree."""
    parent, children = tree_of(x.rank, x.size, root)
    if parent >= 0:
        yield from x.into(parent, data)
    for child in children:
        x.send(child, data)


def broadcast_chain(x: Any, data: Any, root: int) -> Iterator[None]:
    """From neighbour to neighbour, in pieces that follow each other."""
    me = (x.rank - root) % x.size
    before, after = (x.rank - 1) % x.size, (x.rank + 1) % x.size
    for piece in pieces(data):
        if me:
            yield from x.into(before, piece)
        if me + 1 < x.size:
            x.send(after, piece)


def broadcast_direct(x: Any, data: Any, root: int) -> Iterator[None]:
    """From the root to everybody."""
    if x.rank == root:
        for rank in range(x.size):
            if rank != root:
                x.send(rank, data)
        return
    yield from x.into(root, data)


def gather_direct(x: Any, send: Any, receive: Any, root: int, counts: Sequence[int] | None) -> Iterator[None]:
    """From everybody to the root."""
    if x.rank != root:
        for piece in pieces(send):
            x.send(root, piece)
        return
    parts = blocks(receive, counts or [send.size] * x.size)
    parts[root][:] = send
    for distance in range(1, x.size):
        rank = (root + distance) % x.size
        for piece in pieces(parts[rank]):
            yield from x.into(rank, piece)


def gather_tree(x: Any, send: Any, receive: Any, root: int, counts: Sequence[int] | None) -> Iterator[None]:
    """Binomial tree, for equal counts: inner members collect what their subtree gives."""
    me, n = (x.rank - root) % x.size, send.size
    parent, children = tree_of(x.rank, x.size, root)
    width = min(_subtree(me, x.size), x.size - me)
    collected = np.empty(width * n, send.dtype)
    collected[:n] = send
    for child in reversed(children):
        at = (child - root) % x.size
        yield from x.into(child, collected[(at - me) * n : (at - me + min(_subtree(at, x.size), x.size - at)) * n])
    if parent >= 0:
        x.send(parent, collected)
        return
    receive[root * n :] = collected[: (x.size - root) * n]
    receive[: root * n] = collected[(x.size - root) * n :]


def _subtree(me: int, size: int) -> int:
    """How many members hang below one of a binomial tree, itself included, if the tree were full."""
    if me:
        return me & -me
    return 1 << (size - 1).bit_length()


def scatter_direct(x: Any, send: Any, receive: Any, root: int, counts: Sequence[int] | None) -> Iterator[None]:
    """From the root to everybody."""
    if x.rank != root:
        for piece in pieces(receive):
            yield from x.into(root, piece)
        return
    parts = blocks(send, counts or [receive.size] * x.size)
    for distance in range(1, x.size):
        rank = (root + distance) % x.size
        for piece in pieces(parts[rank]):
            x.send(rank, piece)
    receive[:] = parts[root]


def scatter_tree(x: Any, send: Any, receive: Any, root: int, counts: Sequence[int] | None) -> Iterator[None]:
    """Binomial tree, for equal counts."""
    me, n = (x.rank - root) % x.size, receive.size
    parent, children = tree_of(x.rank, x.size, root)
    width = min(_subtree(me, x.size), x.size - me)
    if parent < 0:
        mine = np.concatenate((send[root * n :], send[: root * n]))
    else:
        mine = np.empty(width * n, receive.dtype)
        yield from x.into(parent, mine)
    for child in children:
        at = (child - root) % x.size
        x.send(child, mine[(at - me) * n : (at - me + min(_subtree(at, x.size), x.size - at)) * n])
    receive[:] = mine[:n]


def allgather_ring(x: Any, send: Any, receive: Any, counts: Sequence[int] | None) -> Iterator[None]:
    """Every block goes round; large ones in pieces."""
    parts = blocks(receive, counts or [send.size] * x.size)
    parts[x.rank][:] = send
    yield from ring_blocks(x, parts, x.rank)


def ring_blocks(x: Any, parts: Sequence[Any], first: int) -> Iterator[None]:
    """Round the ring until everybody has all blocks; this member has block ``first``, its left neighbour the one
    before.
    """
    after, before = (x.rank + 1) % x.size, (x.rank - 1) % x.size
    for piece in pieces(parts[first]) if x.size > 1 else ():
        x.send(after, piece)
    for turn in range(1, x.size):
        for piece in pieces(parts[(first - turn) % x.size]):
            yield from x.into(before, piece)
            if turn < x.size - 1:
                x.send(after, piece)


def allgather_bruck(x: Any, send: Any, receive: Any, counts: Sequence[int] | None) -> Iterator[None]:
    """log(size) rounds of doubling lengths, for equal counts."""
    n, size = send.size, x.size
    held = np.empty(size * n, send.dtype)
    held[:n] = send
    have = 1
    while have < size:
        more = min(have, size - have)
        x.send((x.rank - have) % size, held[: more * n])
        yield from x.into((x.rank + have) % size, held[have * n : (have + more) * n])
        have += more
    receive[x.rank * n :] = held[: (size - x.rank) * n]
    receive[: x.rank * n] = held[(size - x.rank) * n :]


def allgather_direct(x: Any, send: Any, receive: Any, counts: Sequence[int] | None) -> Iterator[None]:
    """From everybody to everybody."""
    parts = blocks(receive, counts or [send.size] * x.size)
    for distance in range(1, x.size):
        for piece in pieces(send):
            x.send((x.rank + distance) % x.size, piece)
    parts[x.rank][:] = send
    for distance in range(1, x.size):
        rank = (x.rank - distance) % x.size
        for piece in pieces(parts[rank]):
            yield from x.into(rank, piece)


def alltoall_direct(
    x: Any, send: Any, receive: Any, sent: Sequence[int] | None, received: Sequence[int] | None
) -> Iterator[None]:
    """Everything is sent at once."""
    mine, theirs = _both(x, send, receive, sent, received)
    for distance in range(1, x.size):
        rank = (x.rank + distance) % x.size
        for piece in pieces(mine[rank]):
            x.send(rank, piece)
    theirs[x.rank][:] = mine[x.rank]
    for distance in range(1, x.size):
        rank = (x.rank - distance) % x.size
        for piece in pieces(theirs[rank]):
            yield from x.into(rank, piece)


def alltoall_pairwise(
    x: Any, send: Any, receive: Any, sent: Sequence[int] | None, received: Sequence[int] | None
) -> Iterator[None]:
    """One partner after another: never more than one block under way."""
    mine, theirs = _both(x, send, receive, sent, received)
    theirs[x.rank][:] = mine[x.rank]
    for distance in range(1, x.size):
        to, source = (x.rank + distance) % x.size, (x.rank - distance) % x.size
        for piece in pieces(mine[to]):
            x.send(to, piece)
        for piece in pieces(theirs[source]):
            yield from x.into(source, piece)


def alltoall_bruck(
    x: Any, send: Any, receive: Any, sent: Sequence[int] | None, received: Sequence[int] | None
) -> Iterator[None]:
    """log(size) messages instead of size - 1, for short equal blocks."""
    size, me = x.size, x.rank
    n = send.size // size
    rows = send.reshape(size, n)
    held = np.concatenate((rows[me:], rows[:me]))
    bit = 1
    while bit < size:
        moving = [row for row in range(size) if row & bit]
        packed = held[moving].reshape(-1)
        x.send((me + bit) % size, packed)
        came = np.empty_like(packed)
        yield from x.into((me - bit) % size, came)
        held[moving] = came.reshape(len(moving), n)
        bit *= 2
    result = receive.reshape(size, n)
    result[[(me - row) % size for row in range(size)]] = held


def _both(
    x: Any, send: Any, receive: Any, sent: Sequence[int] | None, received: Sequence[int] | None
) -> tuple[list[Any], list[Any]]:
    mine = blocks(send, sent or [send.size // x.size] * x.size)
    return mine, blocks(receive, received or [receive.size // x.size] * x.size)
