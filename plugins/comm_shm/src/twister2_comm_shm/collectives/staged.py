"""Calls on large arrays: piece by piece through the stages of the members, which stay in the cache.

A stage has room for :data:`DEPTH` pieces, so that members need not keep in step. In each round a member gives a piece
(once everybody has done with the piece that lay there), combines its share of the piece before it, and takes what
others gave or combined of the one before that. Its post says how far it is: number of the call, round, phase.

Where all givers' arrays can be read where they lie nothing is given, and arrays that are only moved have no rounds.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from twister2.spec.fence import publish
from twister2.spec.reducers import UFUNCS

from .flat import BYTES, COPIED, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from twister2.spec.collectives import Call

    from .group import ShmCollectives

    Steps: TypeAlias = Callable[[int, Any, Any], Iterator[None]]
    """Number of the call, send, receive: goes on at each ``next`` as far as the others are."""
    Piece: TypeAlias = Callable[[int], None]
    Phases: TypeAlias = tuple[Piece | None, Piece | None, Piece | None]
    Places: TypeAlias = dict[int, tuple[int, int]]
    """Where givers' arrays lie: segment and place in it, or an address."""
    Direct: TypeAlias = Callable[[Places], Phases | Iterator[None]]
    """The phases from there, or all the copying of a member."""

DEPTH: Final = 4
_GIVEN, _COMBINED, _TAKEN = 1, 2, 3
_ROUND_BITS: Final = 28
"""Of a post; the number of the call is above them, and small calls in a loop count it up fast."""
_SMALLEST: Final = 64 << 10
_LOOKS: Final = 32
"""Looks in vain at a post, some 20 µs, before the processor is offered to others at each further one."""
_PIECES: Final = 4
"""Pieces that an array is cut into at least, if they do not become too small: one member gives while another takes.
Where all give first and then take, fewer pieces cost fewer rounds."""
_READ_FROM: Final = 16 << 20
"""Bytes of a member's array from which it is read where it lies, in calls where all members copy at the same time. The
system looks up each page that it reads, which takes longer than two copies through the stages, until arrays are so
large that they drive the stages out of the cache, and that many pieces, for which all keep in step, cost more."""


def make_steps(group: ShmCollectives, call: Call, send: Any, receive: Any) -> Steps:
    """How this member does a call on large arrays of this form."""
    steps: Steps = _MAKERS[call.operation](group, call, send, receive)
    return steps


def _pieces(n_items: int, room: int, itemsize: int, pieces: int) -> int:
    """Items of one piece; all are of about the same length, whole cache lines.

    :param room: items that fit into one piece. :param pieces: how many there are to be at least.
    """
    wanted = max(-(-n_items // max(pieces, -(-n_items // room))), _SMALLEST // itemsize, 1)
    line = max(1, 64 // itemsize)
    return max(1, min(room, -(-wanted // line) * line))


class _Cut:
    """How an array, or each of the parts of one, is cut into the pieces of a call.

    :param total: items of it. :param itemsize: bytes of one. :param parts: pieces that lie in a stage side by side.
    :param pieces: how many there are to be at least. :param most: bytes of one at most, if not all there is room for.
    :ivar length: items of a piece, the last may be shorter. :ivar rounds: how many pieces there are.
    """

    def __init__(
        self, group: ShmCollectives, total: int, itemsize: int, parts: int = 1, pieces: int = _PIECES, most: int = 0
    ) -> None:
        self._total, self._room = total, int(group.area.layout.stage_bytes // DEPTH // itemsize)
        room = max(1, self._room // parts)
        self.length = _pieces(total, min(room, most // itemsize) if most else room, itemsize, pieces)
        self.rounds = -(-total // self.length)

    def at(self, piece: int) -> tuple[int, int, int]:
        """Where the piece starts in the array, where in a stage, and how long it is."""
        first = piece * self.length
        return first, piece % DEPTH * self._room, min(self.length, self._total - first)


def _giver(stage: Any, source: Any, cut: _Cut) -> Piece:
    """Gives an array piece by piece."""

    def give(piece: int) -> None:
        first, at, extent = cut.at(piece)
        stage[at : at + extent] = source[first : first + extent]

    return give


def _parts_giver(group: ShmCollectives, stage: Any, source: Any, total: int, cut: _Cut) -> Piece:
    """Gives pieces of the parts of an array, of ``total`` items each, that are for the other members."""
    rank, others = group.rank, [member for member in range(group.size) if member != group.rank]

    def give(piece: int) -> None:
        first, place, extent = cut.at(piece)
        for member in others:
            at, there = place + _part(rank, member) * cut.length, member * total + first
            stage[at : at + extent] = source[there : there + extent]

    return give


def _stages(group: ShmCollectives, dtype: Any) -> list[Any]:
    layout, item = group.area.layout, np.dtype(dtype)
    count = layout.stage_bytes // item.itemsize
    return [np.ndarray((count,), item, group.area.map, layout.stage(member)) for member in range(group.size)]


def _until(words: memoryview, posts: Sequence[int], value: int, idle: Iterator[None]) -> Iterator[None]:
    """Wait until all these posts say so much; leave the processor to others when that takes longer."""
    looks = 0
    for post in posts:
        while words[post] < value:
            next(idle, None)
            looks += 1
            if looks > _LOOKS:
                os.sched_yield()
            yield
    publish()


def pipeline(
    group: ShmCollectives,
    number: int,
    rounds: int,
    phases: Phases,
    givers: Sequence[int],
    takers: Sequence[int],
    spare: Iterator[None] | None = None,
    direct: Direct | None = None,
) -> Iterator[None]:
    """Rounds of a call.

    :param phases: give, combine and take, each with the number of a piece; None where this member does nothing.
    :param givers: members whose pieces this one needs. :param takers: members that need this one's.
    :param spare: work that concerns this member alone: done while the others give and where it has to wait for them,
        the rest at the end.
    :param direct: what is done instead where all givers' arrays can be read where they lie.
    """
    idle = iter(()) if spare is None else spare
    words, base = group.area.words, number << _ROUND_BITS
    place = group.area.layout.posts >> 3
    sources = [place + 8 * member for member in givers if member != group.rank]
    readers = [place + 8 * member for member in takers if member != group.rank]
    wanted = group.open[0].wanted
    while not group.entered(wanted):
        next(idle, None)
        yield
    instead = _instead(group, number, givers, direct)
    if instead is not None and not isinstance(instead, tuple):
        yield from _at_once(group, base + _TAKEN, instead, idle, readers if group.rank in givers else ())
        return
    give, combine, take = instead or phases
    combines = combine is not None
    lag = 2 if combines else 1
    for turn in range(rounds + lag):
        if turn < rounds:
            if give is not None:
                if turn >= DEPTH:
                    free = base + 4 * (turn - DEPTH + lag) + _TAKEN
                    yield from _until(words, readers, free, idle)
                give(turn)
            group.post(base + 4 * turn + _GIVEN)
            next(idle, None)
        if combine is not None and 0 < turn <= rounds:
            there = base + 4 * (turn - 1) + _GIVEN
            while any(words[source] < there for source in sources):
                yield
            publish()
            combine(turn - 1)
            group.post(base + 4 * turn + _COMBINED)
        piece = turn - lag
        if piece >= 0:
            if take is not None:
                there = base + (4 * (piece + 1) + _COMBINED if combines else 4 * piece + _GIVEN)
                yield from _until(words, sources, there, idle)
                take(piece)
            group.post(base + 4 * turn + _TAKEN)
    yield from idle
    if instead is not None:
        last = base + 4 * (rounds + lag - 1) + _TAKEN  # until then others may read what this member gives
        yield from _until(words, readers, last, idle)


def _instead(
    group: ShmCollectives, number: int, givers: Sequence[int], direct: Direct | None
) -> Phases | Iterator[None] | None:
    """What is done where all givers' arrays can be read where they lie; after all have entered."""
    places = None if direct is None else group.offered(number, givers)
    group.windows.attempt()
    return None if direct is None or places is None else direct(places)


def _at_once(
    group: ShmCollectives, taken: int, fetch: Iterator[None], idle: Iterator[None], readers: Sequence[int]
) -> Iterator[None]:
    """A call without rounds: copy what others give, and wait until they have copied what this member gives."""
    yield from fetch
    group.post(taken)
    yield from idle
    yield from _until(group.area.words, readers, taken, idle)


class _Reduction:
    """reduce and allreduce: each member combines its share of every piece."""

    def __init__(
        self, group: ShmCollectives, call: Call, stages: list[Any], cut: _Cut, source: Any, target: Any
    ) -> None:
        """:param target: None on members that do not get the result."""
        assert isinstance(call.op, str)
        self._ufunc = getattr(np, UFUNCS[call.op])
        self._group, self._source, self._target = group, source, target
        self._stages, self._cut = stages, cut
        self._mine = stages[group.rank]

    def _bounds(self, piece: int) -> tuple[int, int, list[int]]:
        """Where the piece starts in the array and in a stage, and where the shares start in it."""
        (first, at, extent), size = self._cut.at(piece), self._group.size
        return first, at, [extent * member // size for member in range(size + 1)]

    def give(self, piece: int) -> None:
        first, at, share = self._bounds(piece)
        before, after, extent = share[self._group.rank], share[self._group.rank + 1], share[-1]
        if before:
            self._mine[at : at + before] = self._source[first : first + before]
        if after < extent:
            self._mine[at + after : at + extent] = self._source[first + after : first + extent]

    def combine(self, piece: int) -> None:
        first, at, share = self._bounds(piece)
        low, high = share[self._group.rank], share[self._group.rank + 1]
        parts = [stage[at + low : at + high] for stage in self._stages]
        parts[self._group.rank] = self._source[first + low : first + high]
        self._combined(parts, first, at, low, high)

    def take(self, piece: int) -> None:
        first, at, share = self._bounds(piece)
        for member, stage in enumerate(self._stages):
            if member != self._group.rank:
                low, high = share[member], share[member + 1]
                self._target[first + low : first + high] = stage[at + low : at + high]

    def direct(self, places: Places) -> Phases:
        given = _mapped(self._group, places, self._source)

        def combine_there(piece: int) -> None:
            first, at, share = self._bounds(piece)
            low, high = share[self._group.rank], share[self._group.rank + 1]
            self._combined([array[first + low : first + high] for array in given], first, at, low, high)

        return None, combine_there, None if self._target is None else self.take

    def _combined(self, parts: list[Any], first: int, at: int, low: int, high: int) -> None:
        result = self._mine[at + low : at + high]
        fold(self._ufunc, parts, len(parts), result)
        if self._target is not None:
            self._target[first + low : first + high] = result


def _reduce(group: ShmCollectives, call: Call, send: Any, receive: Any) -> Steps:
    gets = call.operation == "allreduce" or group.rank == call.root
    everybody = range(group.size)
    like = receive if send is None else send
    stages, cut = _stages(group, like.dtype), _Cut(group, like.size, like.dtype.itemsize)

    def start(number: int, send: Any, receive: Any) -> Iterator[None]:
        source = (receive if send is None else send).reshape(-1)
        reduction = _Reduction(group, call, stages, cut, source, receive.reshape(-1) if gets else None)
        group.offer(number, _bytes(source))
        phases = (reduction.give, reduction.combine, reduction.take if gets else None)
        # a stage is free again when its shares were combined by their owners and taken by whoever gets the result
        return pipeline(group, number, cut.rounds, phases, everybody, everybody, None, reduction.direct)

    return start


def _reduce_scatter(group: ShmCollectives, call: Call, send: Any, receive: Any) -> Steps:
    rank, size, everybody = group.rank, group.size, range(group.size)
    assert isinstance(call.op, str)
    ufunc = getattr(np, UFUNCS[call.op])
    stages, total = _stages(group, send.dtype), receive.size
    cut = _Cut(group, total, send.dtype.itemsize, size - 1)

    def start(number: int, send: Any, receive: Any) -> Iterator[None]:
        source, target = send.reshape(-1), receive.reshape(-1)

        def take(piece: int) -> None:
            first, place, extent = cut.at(piece)
            own, parts = rank * total + first, []
            for member in everybody:
                at = place + _part(member, rank) * cut.length
                given = source[own : own + extent] if member == rank else stages[member][at : at + extent]
                parts.append(given)
            fold(ufunc, parts, size, target[first : first + extent])

        def direct(places: Places) -> Phases:
            given = _mapped(group, places, source)

            def take_there(piece: int) -> None:
                first, _, extent = cut.at(piece)
                own = rank * total + first
                fold(ufunc, [array[own : own + extent] for array in given], size, target[first : first + extent])

            return None, None, take_there

        group.offer(number, _bytes(source))
        phases = (_parts_giver(group, stages[rank], source, total, cut), None, take)
        return pipeline(group, number, cut.rounds, phases, everybody, everybody, None, direct)

    return start


def _scan(group: ShmCollectives, call: Call, send: Any, receive: Any) -> Steps:
    rank, size = group.rank, group.size
    assert isinstance(call.op, str)
    ufunc = getattr(np, UFUNCS[call.op])
    count = rank if call.operation == "exscan" else rank + 1
    like = receive if send is None else send
    stages, cut = _stages(group, like.dtype), _Cut(group, like.size, like.dtype.itemsize)

    def start(number: int, send: Any, receive: Any) -> Iterator[None]:
        source, target = (receive if send is None else send).reshape(-1), receive.reshape(-1)

        def take(piece: int) -> None:
            first, at, extent = cut.at(piece)
            parts = [stages[member][at : at + extent] for member in range(count)]
            fold(ufunc, parts, count, target[first : first + extent])

        phases = (_giver(stages[rank], source, cut), None, take if count else None)
        return pipeline(group, number, cut.rounds, phases, range(rank), range(rank, size))

    return start


def _bytes(array: Any) -> Any:
    return array.reshape(-1).view(BYTES)


def _mapped(group: ShmCollectives, places: Places, own: Any) -> list[Any]:
    """The givers' arrays, of the same form as this member's own."""
    return [
        own if member == group.rank else group.mapped(member, place, own.dtype, own.size)
        for member, place in places.items()
    ]


def _copying(target: Any, source: Any) -> Iterator[None]:
    """Copy piece by piece."""
    for first in range(0, source.size, COPIED):
        target[first : first + COPIED] = source[first : first + COPIED]
        yield


def _in_step(parts: Iterable[Iterator[None]]) -> Iterator[None]:
    """Copy a piece of each part, then the next of each: what several members read at the same time comes from memory
    once, and is in the cache for the others.
    """
    for _ in itertools.zip_longest(*parts):
        yield


def _part(sender: int, receiver: int) -> int:
    """Which part of a sender's piece is for a receiver: there is none for itself."""
    return receiver - (receiver > sender)


def _gather(group: ShmCollectives, call: Call, send: Any, receive: Any) -> Steps:
    """Gather and allgather."""
    rank, everybody = group.rank, range(group.size)
    all_get = call.operation == "allgather"
    gets, gives = all_get or rank == call.root, all_get or rank != call.root
    stages, total = _stages(group, BYTES), send.nbytes
    cut = _Cut(group, total, 1, pieces=1 if all_get else _PIECES, most=COPIED)

    def start(number: int, send: Any, receive: Any) -> Iterator[None]:
        source, target = _bytes(send), _bytes(receive) if gets else None
        own = None if target is None else _copying(target[rank * total : (rank + 1) * total], source)

        def take(piece: int) -> None:
            first, at, extent = cut.at(piece)
            for member in everybody:
                if member != rank and target is not None:
                    there = member * total + first
                    target[there : there + extent] = stages[member][at : at + extent]

        def fetch(places: Places) -> Iterator[None]:
            if target is None:
                return iter(())
            parts = target.reshape(group.size, total)
            return _in_step(
                own if own is not None and member == rank else group.fetch(member, place, parts[member])
                for member, place in places.items()
            )

        group.offer(number, source, readable=not all_get or total >= _READ_FROM)
        phases = (_giver(stages[rank], source, cut) if gives else None, None, take if gets else None)
        takers = everybody if all_get else (call.root,)
        return pipeline(group, number, cut.rounds, phases, everybody, takers, own, fetch)

    return start


def _broadcast(group: ShmCollectives, call: Call, send: Any, receive: Any) -> Steps:
    rank, root = group.rank, call.root
    stage, cut = _stages(group, BYTES)[root], _Cut(group, receive.nbytes, 1, most=COPIED)

    def start(number: int, _: Any, receive: Any) -> Iterator[None]:
        whole = _bytes(receive)

        def take(piece: int) -> None:
            first, at, extent = cut.at(piece)
            whole[first : first + extent] = stage[at : at + extent]

        def fetch(places: Places) -> Iterator[None]:
            if rank != root:
                yield from group.fetch(root, places[root], whole)

        # two members are faster when both of them copy, through the cache, than when the system reads for one of them
        group.offer(number, whole if rank == root else None, readable=group.size > 2 and whole.size >= _READ_FROM)
        phases = (_giver(stage, whole, cut), None, None) if rank == root else (None, None, take)
        return pipeline(group, number, cut.rounds, phases, (root,), range(group.size), None, fetch)

    return start


def _alltoall(group: ShmCollectives, call: Call, send: Any, receive: Any) -> Steps:
    """Scatter and alltoall."""
    rank, size = group.rank, group.size
    scatters = call.operation == "scatter"
    gives = not scatters or rank == call.root
    givers: Sequence[int] = (call.root,) if scatters else range(size)
    total = receive.nbytes if scatters else receive.nbytes // size
    stages = _stages(group, BYTES)
    cut = _Cut(group, total, 1, size - 1, _PIECES if scatters else 1, COPIED)

    def start(number: int, send: Any, receive: Any) -> Iterator[None]:
        source, target = _bytes(send) if gives else None, _bytes(receive)
        own = None
        if source is not None:
            low = rank * total
            own = _copying(target if scatters else target[low : low + total], source[low : low + total])

        def take(piece: int) -> None:
            first, place, extent = cut.at(piece)
            for member in givers:
                if member != rank:
                    at = place + _part(member, rank) * cut.length
                    there = first if scatters else member * total + first
                    target[there : there + extent] = stages[member][at : at + extent]

        def fetch(places: Places) -> Iterator[None]:
            parts = target.reshape(-1, total)
            return _in_step(
                own
                if own is not None and member == rank
                else group.fetch(member, (segment, start + rank * total), part)
                for (member, (segment, start)), part in zip(places.items(), parts, strict=True)
            )

        group.offer(number, source, readable=scatters or target.size >= _READ_FROM)
        give = _parts_giver(group, stages[rank], source, total, cut) if gives else None
        phases = (give, None, take)
        return pipeline(group, number, cut.rounds, phases, givers, range(size), own, fetch)

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
