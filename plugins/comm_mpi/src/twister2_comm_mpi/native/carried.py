"""Calls whose parts are so small that they travel in the messages that carry the fingerprints.

That saves the call of the library; each member then combines what it has of all, in the order of ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from twister2.spec.reducers import UFUNCS

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.collectives import Call

ROOM = 64
"""Bytes of one member's part up to which it is carried."""

Take: TypeAlias = "Callable[[Any, int, Any, list[Any], Any], None]"
"""Called when all members are known to be in the same call, with: ufunc (of a broadcast the root), rank, own part,
those of the others by rank, and where the result goes, which may be the own part.
"""

Carried: TypeAlias = "tuple[Any, Take | None, Any, Any, Any]"
"""A call that is carried: this member's part (flat), what is done with all parts (None: nothing, this member gets none
of them), the ufunc, where the result goes (flat), and what goes to each member by rank (None: the same to all).
"""

_UFUNCS: dict[Any, Any] = {op: getattr(np, name) for op, name in UFUNCS.items()}


def carried(call: Call, send: Any, receive: Any, rank: int, size: int) -> Carried | None:
    """How a call is carried; None when it is not, by facts that are equal on all members in the same call."""
    take = _TAKES.get(call.operation)
    if take is None:
        return _dealt(call, send, receive, rank, size) if call.operation in _DEALS else None
    own = receive if send is None else send
    if own.nbytes > ROOM or call.receive_counts is not None:
        return None
    if own.ndim != 1:
        own = own.reshape(-1)
    if receive is None:
        return own, None, None, None, None
    how = call.root if take is _spread else _UFUNCS.get(call.op)
    return own, take, how, receive if receive.ndim == 1 else receive.reshape(-1), None


def _dealt(call: Call, send: Any, receive: Any, rank: int, size: int) -> Carried | None:
    """A call in which members give each other different parts."""
    operation = call.operation
    n = receive.size // size if operation == "alltoall" else receive.size
    if n * receive.itemsize > ROOM or call.send_counts is not None or call.receive_counts is not None:
        return None
    into = receive if receive.ndim == 1 else receive.reshape(-1)
    if send is None:  # all but the root of a scatter
        return into, _spread, call.root, into, None
    # of two parts, slices are made faster than rows
    parts = (send[:n], send[n:]) if size == 2 and send.ndim == 1 else send.reshape(size, n)
    if operation == "scatter":
        into[...] = parts[rank]  # the root waits for nobody
        return into, None, None, into, parts
    return parts[rank], _DEALS[operation], _UFUNCS.get(call.op), into, parts


def _folded(ufunc: Any, rank: int, own: Any, others: list[Any], into: Any) -> None:
    if len(others) == 1:
        if rank:
            ufunc(others[0], own, into)
        else:
            ufunc(own, others[0], into)
    else:
        _fold(ufunc, _by_rank(rank, own, others), into)


def _prefix(ufunc: Any, rank: int, own: Any, others: list[Any], into: Any) -> None:
    _fold(ufunc, [*others[:rank], own], into)


def _before(ufunc: Any, rank: int, own: Any, others: list[Any], into: Any) -> None:
    if rank:
        _fold(ufunc, others[:rank], into)


def _gathered(ufunc: Any, rank: int, own: Any, others: list[Any], into: Any) -> None:
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
    for part in parts[1:-1]:
        so_far = ufunc(so_far, part)
    ufunc(so_far, parts[-1], into)


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
