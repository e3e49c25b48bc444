"""Calls whose parts are so small that they travel in the messages that carry the fingerprints.

That saves the call of the library; each member then combines what it has of all, in the order of ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

if TYPE_CHECKING:
    from twister2.spec.collectives import Call

ROOM = 64
"""Bytes of one member's part up to which it is carried."""

_UFUNCS: dict[str, Any] = {
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


@attrs.frozen
class Carried:
    """A call that is carried.

    :ivar own: this member's part, flat. :ivar take: called with all parts, by rank, when all members are known to be in
        the same call; None where this member gets nothing.
    """

    own: Any
    take: Callable[[list[Any]], None] | None


def carried(call: Call, rank: int, send: Any, receive: Any) -> Carried | None:
    """How a call is carried; None when it is not, by facts that are equal on all members in the same call."""
    form = _FORMS.get(call.operation)
    own = receive if send is None else send
    if form is None or own.nbytes > ROOM or call.receive_counts is not None:
        return None
    if own.ndim != 1:
        own = own.reshape(-1)
    if receive is None:
        return Carried(own, None)
    return Carried(own, form(call, rank, receive if receive.ndim == 1 else receive.reshape(-1)))


def _ufunc(call: Call) -> Any:
    assert isinstance(call.op, str)  # functions never run natively
    return _UFUNCS[call.op]


def _folded(call: Call, rank: int, into: Any) -> Callable[[list[Any]], None]:
    ufunc = _ufunc(call)
    return lambda parts: _fold(ufunc, parts, into)


def _prefix(call: Call, rank: int, into: Any) -> Callable[[list[Any]], None]:
    ufunc = _ufunc(call)
    return lambda parts: _fold(ufunc, parts[: rank + 1], into)


def _before(call: Call, rank: int, into: Any) -> Callable[[list[Any]], None] | None:
    if not rank:
        return None
    ufunc = _ufunc(call)
    return lambda parts: _fold(ufunc, parts[:rank], into)


def _gathered(call: Call, rank: int, into: Any) -> Callable[[list[Any]], None]:
    return lambda parts: _place(parts, into)


def _fold(ufunc: Any, parts: list[Any], into: Any) -> None:
    """``into`` may be one of the parts: it is written last."""
    if len(parts) == 1:
        into[...] = parts[0]
        return
    so_far = parts[0]
    for part in parts[1:-1]:
        so_far = ufunc(so_far, part)
    ufunc(so_far, parts[-1], into)


def _place(parts: list[Any], into: Any) -> None:
    n = parts[0].size
    for at, part in enumerate(parts):
        into[at * n : at * n + n] = part


_FORMS: dict[str, Callable[[Call, int, Any], Callable[[list[Any]], None] | None]] = {
    "allreduce": _folded,
    "reduce": _folded,
    "scan": _prefix,
    "exscan": _before,
    "allgather": _gathered,
    "gather": _gathered,
}
