"""Calls that need none of the library: small parts travel in the messages that carry the fingerprints, larger ones lie
in memory that the members share (:mod:`rooms`), where they are on one host.

Each member combines what it has of all, in the order of ranks.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from twister2.spec.reducers import UFUNCS

from .calls import MOVED, REDUCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.collectives import Call

ROOM = 64
"""Bytes of one member's part up to which it travels in the messages."""

_MOVED_AT_ONCE = 16 << 20
"""The same as :data:`MOVED` of a broadcast or a gather in which each member has a core to itself: one copies a piece in
while another copies the one before out, until arrays drive the pieces out of the cache. With fewer cores they wait for
each other at each piece.
"""

Take: TypeAlias = "Callable[[Any, int, Any, list[Any], Any], None]"
"""Called when all members are known to be in the same call, with: ufunc (of a broadcast the root), rank, own part,
those of the others by rank, and where the result goes, which may be the own part.
"""

Carried: TypeAlias = "tuple[Any, Take | None, Any, Any, Any, bool, bool]"
"""A call that is carried: this member's part (flat), what is done with all parts (None: nothing, this member gets none
of them), the ufunc, where the result goes (flat), what goes to each member by rank (None: the same to all), whether
this member gives anything, and whether members give each other different parts.
"""

_UFUNCS: dict[Any, Any] = {op: getattr(np, name) for op, name in UFUNCS.items()}


def carried(call: Call, send: Any, receive: Any, rank: int, size: int, room: int) -> Carried | None:
    """How a call is carried; None when it is not, by facts that are equal on all members in the same call.

    :param room: bytes that a member can give the others in all, in memory or in a message.
    """
    take = _TAKES.get(call.operation)
    if take is None:
        return _dealt(call, send, receive, rank, size, room) if call.operation in _DEALS else None
    own = receive if send is None else send
    if own.nbytes > room or call.receive_counts is not None:
        return None
    if own.ndim != 1:
        own = own.reshape(-1)
    if receive is None:
        return own, None, None, None, None, True, False
    into = receive if receive.ndim == 1 else receive.reshape(-1)
    if take is _spread:
        return own, take, call.root, into, None, rank == call.root, False
    return own, take, _UFUNCS.get(call.op), into, None, True, False


class Pieces:
    """A call whose parts have no room as a whole: it is carried in pieces, one after the other.

    :ivar left: whether there is another one.
    """

    __slots__ = ("_at", "_n", "_step", "_whole", "left")

    def __init__(self, whole: Carried, size: int, room: int) -> None:
        own, take, how, into, parts, gives, dealt = whole
        if take is _gathered:
            into = into.reshape(size, -1)
        self._whole = own, take, how, into, parts, gives, dealt
        self._at, self._n, self._step = 0, own.size, room // (own.itemsize * (size - 1 if dealt else 1))
        self.left = True

    def next(self) -> Carried:
        """The next piece, by the same facts on all members."""
        own, take, how, into, parts, gives, dealt = self._whole
        cut = slice(self._at, self._at + self._step)
        self._at, self.left = cut.stop, cut.stop < self._n
        if into is not None:
            into = into[..., cut]
        if parts is not None:
            parts = [part[cut] for part in parts]
        return own[cut], take, how, into, parts, gives, dealt


def in_pieces(call: Call, send: Any, receive: Any, rank: int, size: int, room: int, *, at_once: bool) -> Pieces | None:
    """How a call that :func:`carried` has no room for is carried in pieces; None when it is not.

    :param at_once: whether all members can copy at the same time.
    """
    operation = call.operation
    if operation not in REDUCTIONS:
        given = receive.nbytes * (size if operation == "scatter" else 1) if send is None else send.nbytes
        if given > (_MOVED_AT_ONCE if at_once and operation in ("broadcast", "gather") else MOVED):
            return None
    whole = carried(call, send, receive, rank, size, sys.maxsize)
    return None if whole is None or whole[0].itemsize * size > room else Pieces(whole, size, room)


def _dealt(call: Call, send: Any, receive: Any, rank: int, size: int, room: int) -> Carried | None:
    """A call in which members give each other different parts."""
    operation = call.operation
    n = receive.size // size if operation == "alltoall" else receive.size
    nbytes = n * receive.itemsize
    if nbytes > ROOM and nbytes * max(size - 1, 1) > room:
        return None
    if call.send_counts is not None or call.receive_counts is not None:
        return None
    into = receive if receive.ndim == 1 else receive.reshape(-1)
    if send is None:  # all but the root of a scatter
        return into, _spread, call.root, into, None, False, True
    # of two parts, slices are made faster than rows
    parts = (send[:n], send[n:]) if size == 2 and send.ndim == 1 else send.reshape(size, n)
    if operation == "scatter":
        into[...] = parts[rank]  # the root waits for nobody
        return into, None, None, into, parts, True, True
    return parts[rank], _DEALS[operation], _UFUNCS.get(call.op), into, parts, True, True


def _folded(ufunc: Any, rank: int, own: Any, others: list[Any], into: Any) -> None:
    if len(others) == 1:
        if rank:
            ufunc(others[0], own, out=into)
        else:
            ufunc(own, others[0], out=into)
    else:
        _fold(ufunc, _by_rank(rank, own, others), into)


def _prefix(ufunc: Any, rank: int, own: Any, others: list[Any], into: Any) -> None:
    _fold(ufunc, [*others[:rank], own], into)


def _before(ufunc: Any, rank: int, own: Any, others: list[Any], into: Any) -> None:
    if rank:
        _fold(ufunc, others[:rank], into)


def _gathered(ufunc: Any, rank: int, own: Any, others: list[Any], into: Any) -> None:
    if into.ndim == 2:  # a piece
        for row, part in zip(into, _by_rank(rank, own, others), strict=True):
            row[...] = part
        return
    n = own.size
    if len(others) == 1:
        into[:n], into[n:] = (others[0], own) if rank else (own, others[0])
        return
    for at, part in enumerate(_by_rank(rank, own, others)):
        into[at * n : at * n + n] = part


def _spread(root: int, rank: int, own: Any, others: list[Any], into: Any) -> None:
    if rank != root:
        into[...] = others[root - (root > rank)]


def _by_rank(rank: int, own: Any, others: list[Any]) -> list[Any]:
    return [*others[:rank], own, *others[rank:]]


def _fold(ufunc: Any, parts: list[Any], into: Any) -> None:
    """``into`` may be one of the parts: it is written last."""
    if len(parts) == 1:
        into[...] = parts[0]
        return
    so_far = parts[0]
    for at, part in enumerate(parts[1:-1]):
        so_far = ufunc(so_far, part, out=so_far) if at else ufunc(so_far, part)
    ufunc(so_far, parts[-1], out=into)


_TAKES: dict[str, Take] = {
    "allreduce": _folded,
    "reduce": _folded,
    "scan": _prefix,
    "exscan": _before,
    "allgather": _gathered,
    "gather": _gathered,
    "broadcast": _spread,
}
_DEALS: dict[str, Take] = {"alltoall": _gathered, "reduce_scatter": _folded, "scatter": _spread}
