"""Calls on large arrays: piece by piece through the stages of the members, which stay in the cache.

A stage has room for :data:`DEPTH` pieces, so that members need not keep in step. In each round a member gives a piece
(once everybody has done with the piece that lay there), combines its share of the piece before it, and takes what
others gave or combined of the one before that. Its post says how far it is: number of the call, round, phase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from twister2.spec.reducers import UFUNCS

from .flat import BYTES, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twister2.spec.collectives import Call

    from .group import ShmCollectives

    Steps: TypeAlias = Callable[[int, Any, Any], Iterator[None]]
    """Number of the call, send, receive: goes on at each ``next`` as far as the others are."""
    Piece: TypeAlias = Callable[[int], None]

DEPTH: Final = 4
_GIVEN, _COMBINED, _TAKEN = 1, 2, 3
_SMALLEST: Final = 64 << 10
_PIECES: Final = 4
"""Pieces that an array is cut into at least, if they do not become too small."""


def make_steps(group: ShmCollectives, call: Call) -> Steps:
    """How this member does a call on large arrays.

    :raises NetworkError: too little memory for its stage.
    """
    group.area.back_stage()
    steps: Steps = _MAKERS[call.operation](group, call)
    return steps


def _pieces(n_items: int, room: int, itemsize: int) -> int:
    """Items of one piece.

    :param room: items that fit into one piece.
    """
    wanted = max(-(-n_items // _PIECES), _SMALLEST // itemsize, 1)
    return max(1, min(room, wanted))


def _stages(group: ShmCollectives, dtype: Any) -> list[Any]:
    layout, item = group.area.layout, np.dtype(dtype)
    count = layout.stage_bytes // item.itemsize
    return [np.ndarray((count,), item, group.area.map, layout.stage(member)) for member in range(group.size)]


def _room(group: ShmCollectives, itemsize: int) -> int:
    return int(group.area.layout.stage_bytes // DEPTH // itemsize)


def pipeline(
    group: ShmCollectives,
    number: int,
    rounds: int,
    phases: tuple[Piece | None, Piece | None, Piece | None],
    givers: Sequence[int],
    takers: Sequence[int],
) -> Iterator[None]:
    """Rounds of a call.

    :param phases: give, combine and take, each with the number of a piece; None where this member does nothing.
    :param givers: members whose pieces this one needs. :param takers: members that need this one's.
    """
    give, combine, take = phases
    combines = combine is not None
    words, base = group.area.words, number << 32
    place = group.area.layout.posts >> 3
    sources = [place + 8 * member for member in givers if member != group.rank]
    readers = [place + 8 * member for member in takers if member != group.rank]
    lag = 2 if combines else 1
    wanted = group.open[0].wanted
    while not group.entered(wanted):
        yield
    for turn in range(rounds + lag):
        if turn < rounds:
            if give is not None:
                if turn >= DEPTH:
                    free = base + 4 * (turn - DEPTH + lag) + _TAKEN
                    while any(words[reader] < free for reader in readers):
                        yield
                give(turn)
            group.post(base + 4 * turn + _GIVEN)
        if combine is not None and 0 < turn <= rounds:
            there = base + 4 * (turn - 1) + _GIVEN
            while any(words[source] < there for source in sources):
                yield
            combine(turn - 1)
            group.post(base + 4 * turn + _COMBINED)
        piece = turn - lag
        if piece >= 0:
            if take is not None:
                there = base + (4 * (piece + 1) + _COMBINED if combines else 4 * piece + _GIVEN)
                while any(words[source] < there for source in sources):
                    yield
                take(piece)
            group.post(base + 4 * turn + _TAKEN)


def _reduce(group: ShmCollectives, call: Call) -> Steps:
    """Reduce and allreduce: each member combines its share of every piece."""
    rank, size, everybody = group.rank, group.size, range(group.size)
    assert isinstance(call.op, str)
    ufunc = getattr(np, UFUNCS[call.op])
    gets = call.operation == "allreduce" or rank == call.root

    def start(number: int, send: Any, receive: Any) -> Iterator[None]:
        source = (receive if send is None else send).reshape(-1)
        target = receive.reshape(-1) if gets else None
        stages = _stages(group, source.dtype)
        room = _room(group, source.dtype.itemsize)
        total, mine = source.size, stages[rank]
        length = _pieces(total, room, source.dtype.itemsize)

        def bounds(piece: int) -> tuple[int, int, int, list[int]]:
            first = piece * length
            extent = min(length, total - first)
            return first, extent, piece % DEPTH * room, [extent * member // size for member in range(size + 1)]

        def give(piece: int) -> None:
            first, extent, at, share = bounds(piece)
            before, after = share[rank], share[rank + 1]
            if before:
                mine[at : at + before] = source[first : first + before]
            if after < extent:
                mine[at + after : at + extent] = source[first + after : first + extent]

        def combine(piece: int) -> None:
            first, _, at, share = bounds(piece)
            low, high = share[rank], share[rank + 1]
            parts = [
                source[first + low : first + high] if member == rank else stages[member][at + low : at + high]
                for member in everybody
            ]
            result = mine[at + low : at + high]
            fold(ufunc, parts, size, result)
            if target is not None:
                target[first + low : first + high] = result

        def take(piece: int) -> None:
            first, _, at, share = bounds(piece)
            for member in everybody:
                if member != rank and target is not None:
                    low, high = share[member], share[member + 1]
                    target[first + low : first + high] = stages[member][at + low : at + high]

        # a stage is free again when its shares were combined by their owners and taken by whoever gets the result
        return pipeline(
            group, number, -(-total // length), (give, combine, take if gets else None), everybody, everybody
        )

    return start


def _reduce_scatter(group: ShmCollectives, call: Call) -> Steps:
    rank, size, everybody = group.rank, group.size, range(group.size)
    assert isinstance(call.op, str)
    ufunc = getattr(np, UFUNCS[call.op])

    def start(number: int, send: Any, receive: Any) -> Iterator[None]:
        source, target = send.reshape(-1), receive.reshape(-1)
        stages = _stages(group, source.dtype)
        room = _room(group, source.dtype.itemsize)
        total, mine = target.size, stages[rank]
        length = _pieces(total, room // size, source.dtype.itemsize)

        def give(piece: int) -> None:
            first, at = piece * length, piece % DEPTH * room
            extent = min(length, total - first)
            for member in everybody:
                if member != rank:
                    here, there = at + member * length, member * total + first
                    mine[here : here + extent] = source[there : there + extent]

        def take(piece: int) -> None:
            first, at = piece * length, piece % DEPTH * room + rank * length
            extent, own = min(length, total - first), rank * total + first
            parts = [
                source[own : own + extent] if member == rank else stages[member][at : at + extent]
                for member in everybody
            ]
            fold(ufunc, parts, size, target[first : first + extent])

        return pipeline(group, number, -(-total // length), (give, None, take), everybody, everybody)

    return start


def _scan(group: ShmCollectives, call: Call) -> Steps:
    rank, size = group.rank, group.size
    assert isinstance(call.op, str)
    ufunc = getattr(np, UFUNCS[call.op])
    count = rank if call.operation == "exscan" else rank + 1

    def start(number: int, send: Any, receive: Any) -> Iterator[None]:
        source, target = (receive if send is None else send).reshape(-1), receive.reshape(-1)
        stages = _stages(group, source.dtype)
        room = _room(group, source.dtype.itemsize)
        total, mine = source.size, stages[rank]
        length = _pieces(total, room, source.dtype.itemsize)

        def give(piece: int) -> None:
            first, at = piece * length, piece % DEPTH * room
            extent = min(length, total - first)
            mine[at : at + extent] = source[first : first + extent]

        def take(piece: int) -> None:
            first, at = piece * length, piece % DEPTH * room
            extent = min(length, total - first)
            parts = [stages[member][at : at + extent] for member in range(count)]
            fold(ufunc, parts, count, target[first : first + extent])

        return pipeline(
            group, number, -(-total // length), (give, None, take if count else None), range(rank), range(rank, size)
        )

    return start


def _bytes(array: Any) -> Any:
    return array.reshape(-1).view(BYTES)


def _gather(group: ShmCollectives, call: Call) -> Steps:
    """Gather and allgather."""
    rank, everybody = group.rank, range(group.size)
    all_get = call.operation == "allgather"
    gets, gives = all_get or rank == call.root, all_get or rank != call.root

    def start(number: int, send: Any, receive: Any) -> Iterator[None]:
        source, target = _bytes(send), _bytes(receive) if gets else None
        stages, room = _stages(group, BYTES), _room(group, 1)
        total, mine = source.size, stages[rank]
        length = _pieces(total, room, 1)

        def give(piece: int) -> None:
            first, at = piece * length, piece % DEPTH * room
            extent = min(length, total - first)
            if gives:
                mine[at : at + extent] = source[first : first + extent]
            if target is not None:
                own = rank * total + first
                target[own : own + extent] = source[first : first + extent]

        def take(piece: int) -> None:
            first, at = piece * length, piece % DEPTH * room
            extent = min(length, total - first)
            for member in everybody:
                if member != rank and target is not None:
                    there = member * total + first
                    target[there : there + extent] = stages[member][at : at + extent]

        takers = everybody if all_get else (call.root,)
        return pipeline(group, number, -(-total // length), (give, None, take if gets else None), everybody, takers)

    return start


def _broadcast(group: ShmCollectives, call: Call) -> Steps:
    rank, root = group.rank, call.root

    def start(number: int, _: Any, receive: Any) -> Iterator[None]:
        whole = _bytes(receive)
        stage, room = _stages(group, BYTES)[root], _room(group, 1)
        total = whole.size
        length = _pieces(total, room, 1)

        def give(piece: int) -> None:
            first, at = piece * length, piece % DEPTH * room
            extent = min(length, total - first)
            stage[at : at + extent] = whole[first : first + extent]

        def take(piece: int) -> None:
            first, at = piece * length, piece % DEPTH * room
            extent = min(length, total - first)
            whole[first : first + extent] = stage[at : at + extent]

        phases = (give, None, None) if rank == root else (None, None, take)
        return pipeline(group, number, -(-total // length), phases, (root,), range(group.size))

    return start


def _alltoall(group: ShmCollectives, call: Call) -> Steps:
    """Scatter and alltoall."""
    rank, size = group.rank, group.size
    scatters = call.operation == "scatter"
    gives = not scatters or rank == call.root
    givers: Sequence[int] = (call.root,) if scatters else range(size)

    def start(number: int, send: Any, receive: Any) -> Iterator[None]:
        source, target = _bytes(send) if gives else None, _bytes(receive)
        stages, room = _stages(group, BYTES), _room(group, 1)
        total = target.size if scatters else target.size // size
        mine, length = stages[rank], _pieces(total, room // size, 1)

        def give(piece: int) -> None:
            assert source is not None
            first, at = piece * length, piece % DEPTH * room
            extent = min(length, total - first)
            for member in range(size):
                there, here = member * total + first, at + member * length
                if member != rank:
                    mine[here : here + extent] = source[there : there + extent]
                else:
                    own = first if scatters else there
                    target[own : own + extent] = source[there : there + extent]

        def take(piece: int) -> None:
            first, at = piece * length, piece % DEPTH * room + rank * length
            extent = min(length, total - first)
            for member in givers:
                if member != rank:
                    there = first if scatters else member * total + first
                    target[there : there + extent] = stages[member][at : at + extent]

        return pipeline(group, number, -(-total // length), (give if gives else None, None, take), givers, range(size))

    return start


_MAKERS: Final[dict[str, Any]] = {
    "allreduce": _reduce,
    "reduce": _reduce,
    "reduce_scatter": _reduce_scatter,
    "scan": _scan,
    "exscan": _scan,
    "gather": _gather,
    "allgather": _gather,
    "broadcast": _broadcast,
    "scatter": _alltoall,
    "alltoall": _alltoall,
}
