"""Algorithms of reductions. Each is a generator that yields while it waits for a message.

The order in which elements are combined depends on the algorithm and the number of members only. Those of
:data:`WHOLE` keep the order of ranks and combine whole arrays, so that they serve functions that are only associative;
the others split arrays and serve the named ops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from twister2.worker.network.collectives.moving import blocks, pieces, tree_of
from twister2.worker.network.wire import INLINE

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from twister2.worker.network.collectives.ops import Combine


def even(n: int, size: int) -> list[int]:
    """``n`` elements in ``size`` blocks whose lengths differ by at most one."""
    return [n * (rank + 1) // size - n * rank // size for rank in range(size)]


# -- allreduce: ``send`` holds this member's elements, the result goes to ``data``; both may be the same array --------


def _paired(x: Any, send: Any, data: Any, combine: Combine) -> Generator[None, None, tuple[Any, int, int] | None]:
    """Members beyond a power of two lend their data to the neighbour before them, who has 2i as rank.

    :returns: what this member goes on with, its place among the others, and how many were lent to; None for who has
        lent, and has the result.
    """
    extra = x.size - (1 << (x.size.bit_length() - 1))
    rank = x.rank
    if rank >= 2 * extra:
        return send, rank - extra, extra
    if rank % 2:
        x.send(rank - 1, send)
        yield from x.into(rank - 1, data)
        return None
    yield from x.receive(rank + 1, data.nbytes)
    combine(send, x.take(rank + 1, data.dtype), data)
    return data, rank // 2, extra


def _rank_at(place: int, extra: int) -> int:
    return 2 * place if place < extra else place + extra


def allreduce_doubling(x: Any, send: Any, data: Any, combine: Combine) -> Iterator[None]:
    """Recursive doubling; members beyond a power of two lend their data to a neighbour first."""
    begun = yield from _paired(x, send, data, combine)
    if begun is None:
        return
    send, me, extra = begun
    bit = 1
    while bit < x.size - extra:
        other = me ^ bit
        peer = _rank_at(other, extra)
        # what is combined in place is still on its way; short messages are copied by sending them
        x.send(peer, send if send is not data or data.nbytes <= INLINE else data.copy())
        yield from x.receive(peer, data.nbytes)
        came = x.take(peer, data.dtype)
        if other < me:
            combine(came, send, data)
        else:
            combine(send, came, data)
        send = data
        bit *= 2
    if x.rank < 2 * extra:
        x.send(x.rank + 1, data)


def allreduce_ring(x: Any, send: Any, data: Any, combine: Combine) -> Iterator[None]:
    """Reduce-scatter and allgather round a ring, in pieces: a piece is passed on as soon as it is combined."""
    size, rank = x.size, x.rank
    after, before = (rank + 1) % size, (rank - 1) % size
    lengths = even(data.size, size)
    given = blocks(send, lengths)
    parts = [pieces(block) for block in blocks(data, lengths)]
    for piece in pieces(given[rank]):
        x.send(after, piece)
    # in turn t this member combines block (rank - t); the last one is complete and starts its round
    for turn in range(1, size):
        block = (rank - turn) % size
        for mine, piece in zip(pieces(given[block]), parts[block], strict=True):
            yield from x.receive(before, piece.nbytes)
            combine(x.take(before, piece.dtype), mine, piece)
            x.send(after, piece)
    for turn in range(size - 1):
        for piece in parts[(rank - turn) % size]:
            yield from x.into(before, piece)
            if turn < size - 2:
                x.send(after, piece)


def allreduce_halving(x: Any, send: Any, data: Any, combine: Combine) -> Iterator[None]:
    """Recursive halving and doubling (Rabenseifner): little data in few rounds."""
    begun = yield from _paired(x, send, data, combine)
    if begun is None:
        return
    send, me, extra = begun
    low, high = 0, data.size
    path = []
    bit = 1
    while bit < x.size - extra:
        other = me ^ bit
        peer = _rank_at(other, extra)
        middle = (low + high) // 2
        keep, give = ((low, middle), (middle, high)) if me < other else ((middle, high), (low, middle))
        path.append((peer, give))
        for piece in pieces(send[slice(*give)]):
            x.send(peer, piece)
        for mine, piece in zip(pieces(send[slice(*keep)]), pieces(data[slice(*keep)]), strict=True):
            yield from x.receive(peer, piece.nbytes)
            came = x.take(peer, data.dtype)
            if other < me:
                combine(came, mine, piece)
            else:
                combine(mine, came, piece)
        send = data
        low, high = keep
        bit *= 2
    for peer, lost in reversed(path):
        for piece in pieces(data[low:high]):
            x.send(peer, piece)
        for piece in pieces(data[slice(*lost)]):
            yield from x.into(peer, piece)
        low, high = min(low, lost[0]), max(high, lost[1])
    if x.rank < 2 * extra:
        x.send(x.rank + 1, data)


def allreduce_tree(x: Any, send: Any, data: Any, combine: Combine) -> Iterator[None]:
    """To rank 0 along a tree, and back."""
    if send is not data:
        data[:] = send
    yield from reduce_tree(x, data, combine, 0)
    parent, children = tree_of(x.rank, x.size, 0)
    if parent >= 0:
        yield from x.into(parent, data)
    for child in children:
        x.send(child, data)


# -- reduce: ``data`` holds this member's elements and may be overwritten; the result is in it at the root -----------


def reduce_tree(x: Any, data: Any, combine: Combine, root: int) -> Iterator[None]:
    """Binomial tree to rank 0, whose subtrees are ranges of ranks; from there to the root."""
    parent, children = tree_of(x.rank, x.size, 0)
    for child in reversed(children):
        yield from x.receive(child, data.nbytes)
        combine(data, x.take(child, data.dtype), data)
    if parent >= 0:
        x.send(parent, data)
    if root and x.rank == 0:
        x.send(root, data)
    elif root == x.rank and root:
        # what was sent to the parent must have left before it is overwritten: the result depends on it
        yield from x.into(0, data)


def reduce_chain(x: Any, data: Any, combine: Combine, root: int) -> Iterator[None]:
    """From neighbour to neighbour, ending at the root, in pieces that follow each other."""
    size = x.size
    at = (x.rank - root - 1) % size  # the root is the last
    before, after = (x.rank - 1) % size, (x.rank + 1) % size
    for piece in pieces(data):
        if at:
            yield from x.receive(before, piece.nbytes)
            combine(x.take(before, data.dtype), piece, piece)
        if at < size - 1:
            x.send(after, piece)


# -- scan and exscan: ``data`` holds this member's elements; the result replaces it -----------------------------------


def scan_doubling(x: Any, data: Any, combine: Combine, exclusive: bool) -> Iterator[None]:
    """log(size) rounds: after round k ``total`` spans the 2^k ranks up to this one."""
    rank = x.rank
    total = data.copy()
    before: Any = None  # what came from the left so far
    bit = 1
    while bit < x.size:
        if rank + bit < x.size:
            x.send(rank + bit, total.copy())
        if rank >= bit:
            yield from x.receive(rank - bit, data.nbytes)
            came = x.take(rank - bit, data.dtype)
            if before is None:
                before = came.copy()
            else:
                combine(came, before, before)
            combine(came, total, total)
        bit *= 2
    if not exclusive:
        data[:] = total
    elif before is not None:
        data[:] = before


def scan_chain(x: Any, data: Any, combine: Combine, exclusive: bool) -> Iterator[None]:
    """One after another; named ops in pieces that follow each other."""
    for piece in pieces(data):
        yield from _scan_piece(x, piece, combine, exclusive)


def scan_chain_whole(x: Any, data: Any, combine: Combine, exclusive: bool) -> Iterator[None]:
    """One after another, whole arrays."""
    yield from _scan_piece(x, data, combine, exclusive)


def _scan_piece(x: Any, piece: Any, combine: Combine, exclusive: bool) -> Iterator[None]:
    rank = x.rank
    own = piece
    if rank:
        yield from x.receive(rank - 1, piece.nbytes)
        came = x.take(rank - 1, piece.dtype)
        if exclusive:
            own = piece.copy()
            piece[:] = came
            combine(came, own, own)
        else:
            combine(came, piece, piece)
    if rank + 1 < x.size:
        x.send(rank + 1, own)


# -- reduce_scatter: ``data`` holds blocks by rank; ``receive`` gets this member's ------------------------------------


def scatter_pairwise(x: Any, data: Any, receive: Any, counts: Sequence[int], combine: Combine) -> Iterator[None]:
    """Every block goes straight to its owner, who combines in the order of ranks."""
    size, rank = x.size, x.rank
    parts = blocks(data, counts)
    for distance in range(1, size):
        to = (rank + distance) % size
        x.send(to, parts[to])
    whole: Any = None
    for source in range(size):
        part = parts[rank]
        if source != rank:
            yield from x.receive(source, receive.nbytes)
            part = x.take(source, receive.dtype)
        if whole is None:
            whole = part
        elif whole is not receive:
            receive[:] = whole
            whole = receive
            combine(whole, part, whole)
        else:
            combine(whole, part, whole)
    if whole is not receive:
        receive[:] = whole


def scatter_ring(x: Any, data: Any, receive: Any, counts: Sequence[int], combine: Combine) -> Iterator[None]:
    """Round a ring in pieces; block b starts at rank b + 1 and ends at its owner."""
    size, rank = x.size, x.rank
    after, before = (rank + 1) % size, (rank - 1) % size
    parts = blocks(data, counts)
    if size == 1:
        receive[:] = parts[0]
        return
    for piece in pieces(parts[before]):
        x.send(after, piece)
    for turn in range(2, size + 1):
        block = parts[(rank - turn) % size]
        target = receive if turn == size else np.empty_like(block)
        for mine, out in zip(pieces(block), pieces(target), strict=True):
            yield from x.receive(before, mine.nbytes)
            combine(x.take(before, data.dtype), mine, out)
            if turn < size:
                x.send(after, out)


WHOLE = frozenset({allreduce_doubling, allreduce_tree, reduce_tree, scan_doubling, scan_chain_whole, scatter_pairwise})
