"""Calls of one round: everybody gives its part into its slot (a larger one into its room), enters, and takes what it
needs once all have entered.

A form is made once for each call, dtype and shape; it holds the views of the slots, so that a call is a few numpy
operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from twister2.spec.reducers import UFUNCS

from .area import SLOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.collectives import Call

    from .area import Area

    Put: TypeAlias = Callable[[int, Any, Any], None]
    """Write what this member gives: parity, send, receive."""
    Take: TypeAlias = Callable[[int, Any, Any], None]
    """Read what it gets."""

BYTES: Final = np.dtype("uint8")
COPIED: Final = 512 << 10
"""Bytes that are copied at once, at most: where the C library moves less than the second-level cache by one
instruction, which does not read what it overwrites (a MiB takes 18 µs so and 21 in one; out of the cache 44 and 53)."""


def nothing(parity: int, send: Any, receive: Any) -> None:
    """This member has no part in it."""


def fold(ufunc: Any, parts: Any, count: int, out: Any) -> None:
    """``parts[0] op parts[1] op ...`` in this order, so that all members get the same bits."""
    if count == 1:
        out[...] = parts[0]
        return
    ufunc(parts[0], parts[1], out=out)
    for index in range(2, count):
        ufunc(out, parts[index], out=out)


class Slots:
    """Views of all slots of a group for arrays of one dtype and shape."""

    def __init__(self, area: Area, dtype: Any, shape: tuple[int, ...]) -> None:
        size, rank = area.layout.size, area.rank
        item = np.dtype(dtype)
        strides = list(np.empty((), item).strides)
        step = item.itemsize
        for extent in reversed(shape):
            strides.insert(0, step)
            step *= extent
        places, distance = area.layout.places(step)
        self.all = tuple(np.ndarray((size, *shape), item, area.map, place, (distance, *strides)) for place in places)
        self.each = tuple(tuple(every[member, ...] for member in range(size)) for every in self.all)
        self.mine = tuple(each[rank] for each in self.each)


def make_form(area: Area, call: Call, send: Any, receive: Any) -> tuple[Put, Take]:
    """How this member gives and takes in a call."""
    if call.operation == "barrier":
        return nothing, nothing
    if call.operation in ("allreduce", "reduce", "scan", "exscan", "reduce_scatter"):
        return _reducing(area, call, send, receive)
    return _moving(area, call, send, receive)


def _reducing(area: Area, call: Call, send: Any, receive: Any) -> tuple[Put, Take]:
    rank, size, operation = area.rank, area.layout.size, call.operation
    given = receive if send is None else send
    assert isinstance(call.op, str)
    ufunc = getattr(np, UFUNCS[call.op])
    if operation == "reduce_scatter":
        given = given.reshape(-1)
        slots = Slots(area, given.dtype, given.shape)
        n = receive.size
        shares = tuple(every[:, rank * n : (rank + 1) * n] for every in slots.all)

        def take_share(parity: int, _: Any, receive: Any) -> None:
            fold(ufunc, shares[parity], size, receive.reshape(-1))

        return _put_flat(slots), take_share
    slots = Slots(area, given.dtype, given.shape)
    mine, each = slots.mine, slots.each
    in_place = send is None

    def put(parity: int, send: Any, receive: Any) -> None:
        mine[parity][...] = receive if in_place else send

    if (operation == "reduce" and rank != call.root) or (operation == "exscan" and rank == 0):
        return put, nothing
    if operation in ("allreduce", "reduce") and size == 2:
        pairs = tuple((*parts,) for parts in each)

        def take_two(parity: int, _: Any, receive: Any) -> None:
            left, right = pairs[parity]
            ufunc(left, right, receive)

        # receive may have another shape than send: then the general way
        return put, take_two if receive.shape == given.shape else _take_fold(ufunc, each, size, given.shape)
    count = rank + 1 if operation == "scan" else rank if operation == "exscan" else size
    return put, _take_fold(ufunc, each, count, given.shape)


def _take_fold(ufunc: Any, each: Any, count: int, shape: tuple[int, ...]) -> Take:
    def take(parity: int, _: Any, receive: Any) -> None:
        fold(ufunc, each[parity], count, receive.reshape(shape))

    return take


def _put_flat(slots: Slots) -> Put:
    mine = slots.mine

    def put(parity: int, send: Any, _: Any) -> None:
        mine[parity][...] = send.reshape(-1)

    return put


def _moving(area: Area, call: Call, send: Any, receive: Any) -> tuple[Put, Take]:
    """Operations that only move bytes."""
    rank, size, operation, root = area.rank, area.layout.size, call.operation, call.root
    if operation == "broadcast":
        slots = Slots(area, receive.dtype, receive.shape)
        mine, each = slots.mine, slots.each

        def put_receive(parity: int, _: Any, receive: Any) -> None:
            mine[parity][...] = receive

        def take_root(parity: int, _: Any, receive: Any) -> None:
            receive[...] = each[parity][root]

        return (put_receive, nothing) if rank == root else (nothing, take_root)
    if operation in ("gather", "allgather"):
        slots = Slots(area, send.dtype, send.shape)
        if send.nbytes > SLOT:
            return _gathering(slots, rank, send.size, gets=operation == "allgather" or rank == root)
        mine, every = slots.mine, slots.all
        shape = every[0].shape

        def put(parity: int, send: Any, _: Any) -> None:
            mine[parity][...] = send

        def take_all(parity: int, _: Any, receive: Any) -> None:
            receive.reshape(shape)[...] = every[parity]

        return put, take_all if operation == "allgather" or rank == root else nothing
    # scatter and alltoall: slots hold one part for each member
    given = receive if send is None else send
    total = receive.size * size if operation == "scatter" else given.size
    slots = Slots(area, given.dtype, (total,))
    part = total // size
    shares = tuple(every[:, rank * part : (rank + 1) * part] for every in slots.all)
    if operation == "scatter":

        def take_part(parity: int, _: Any, receive: Any) -> None:
            receive.reshape(-1)[...] = shares[parity][root]

        return _put_flat(slots) if rank == root else nothing, take_part
    if given.nbytes > SLOT:
        return _dealing(slots, shares, rank, size, part)

    def take_parts(parity: int, _: Any, receive: Any) -> None:
        receive.reshape(size, part)[...] = shares[parity]

    return _put_flat(slots), take_parts


def _dealing(slots: Slots, shares: Any, rank: int, size: int, part: int) -> tuple[Put, Take]:
    """For alltoall of arrays so large that a member's part for itself is worth not going through its room."""
    others = [(member, slice(member * part, (member + 1) * part)) for member in range(size) if member != rank]
    own = slice(rank * part, (rank + 1) * part)

    def put(parity: int, send: Any, _: Any) -> None:
        given, room = send.reshape(-1), slots.mine[parity]
        for _, cut in others:
            room[cut] = given[cut]

    def take(parity: int, send: Any, receive: Any) -> None:
        into, theirs = receive.reshape(-1), shares[parity]
        for member, cut in others:
            into[cut] = theirs[member]
        into[own] = send.reshape(-1)[own]

    return put, take


def _gathering(slots: Slots, rank: int, count: int, *, gets: bool) -> tuple[Put, Take]:
    """For gather and allgather of arrays so large that a member's own is worth not being read back from its room."""
    every = [[each.reshape(-1) for each in each_of] for each_of in slots.each]

    def put(parity: int, send: Any, _: Any) -> None:
        _copy(every[parity][rank], send.reshape(-1))

    def take(parity: int, send: Any, receive: Any) -> None:
        into = receive.reshape(-1, count)
        for member, theirs in enumerate(every[parity]):
            _copy(into[member], send.reshape(-1) if member == rank else theirs)

    return put, take if gets else nothing


def _copy(target: Any, source: Any) -> None:
    """Copy in pieces."""
    step = max(1, COPIED // source.itemsize)
    for first in range(0, source.size, step):
        target[first : first + step] = source[first : first + step]
