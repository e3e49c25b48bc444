"""The fingerprints beside the calls: each member learns whether all others are in the same call.

They travel on a communicator of the group, by messages (which MPI keeps apart from its collectives): in small groups
from each to each, which is what a barrier costs; in larger ones by a reduction. Values are 64 bits over step and
fingerprint. Where parts differ their sizes travel along, since not every library notices parts that do not fit. In
small groups there is room for a part of a few bytes (:mod:`carried`), and they tell that larger ones are there
(:mod:`rooms`).
Exchanges of a group are started in the same order by all; MPI keeps that order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ..world import MPI
from .carried import ROOM, Pieces
from .rooms import ROOM as SHARED_ROOM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .carried import Carried
    from .rooms import Rooms

EACH_TO_EACH = 8
"""Members up to which fingerprints are sent from each to each."""

Counts: TypeAlias = "tuple[Sequence[int], Sequence[int]]"
"""Of a call whose parts may differ: elements this member gives to each member, and expects from each."""

_TAG = 1
_COUNT, _PART = 1, 2
_WORDS = 2 + ROOM // 8
_MASK = (1 << 64) - 1


class Odd(NamedTuple):
    """A member that differs. :ivar counts: elements it gives and those expected of it; None: it is in another call."""

    rank: int
    counts: tuple[int, int] | None


class Exchange(ABC):
    """One exchange of fingerprints, or one for each piece of a call.

    :ivar held: it has not told everything; the call's arrays are still needed.
    """

    __slots__ = ("held",)

    held: bool

    @abstractmethod
    def test(self) -> bool:
        """Whether it is complete. Never blocks."""

    @abstractmethod
    def odd_one(self) -> Odd | None:
        """After completion: a member that differs; None when all agree."""

    @abstractmethod
    def take(self) -> bool:
        """All agree: give the call what was carried for it, if anything. Whether that was the last of it; else this is
        another exchange from now on.
        """


class Checks(ABC):
    """Starts exchanges.

    :ivar room: bytes that a member can give with them; 0: nothing is carried.
    """

    room: int

    @abstractmethod
    def start(self, value: int, counts: Counts | None, carried: Carried | Pieces | None) -> Exchange:
        """Tell the others ``value``, learn theirs; also ``counts``, if the call has them, and what is carried."""

    @abstractmethod
    def done(self, exchange: Exchange) -> None:
        """It is complete and may be used again."""

    @abstractmethod
    def close(self) -> None:
        """The group is not used any more; exchanges may be under way."""

    @abstractmethod
    def release(self) -> None:
        """Give back what the MPI library holds; nothing is under way."""


def checks(comm: MPI.Intracomm, beside: MPI.Intracomm | None, rooms: Rooms | None) -> Checks:
    """The checks of a group.

    :param comm: the group's communicator. :param beside: another one of the same members, in groups of more than
        :data:`EACH_TO_EACH`; None in smaller ones. :param rooms: memory that its members share.
    """
    return EachToEach(comm, rooms) if beside is None else Reduced(beside)


class _Messages(Exchange):
    """Persistent requests: starting them again costs a fraction of a microsecond.

    Buffers hold for each other member two words, value and count, and room for a part.
    """

    __slots__ = (
        "_came",
        "_carried",
        "_dtype",
        "_left",
        "_of",
        "_parts",
        "_pieces",
        "_places",
        "_rank",
        "_ranks",
        "_requests",
        "_rooms",
        "_size",
        "_told",
        "_took",
        "expected",
        "mine",
        "theirs",
        "value",
    )

    def __init__(self, comm: MPI.Intracomm, of: EachToEach) -> None:
        self._rank = comm.rank
        self._of = of
        self._took: Callable[[], None] | None = None
        self._pieces: Pieces | None = None
        self._told = False
        self.held = False
        self._ranks = [rank for rank in range(comm.size) if rank != comm.rank]
        self._places = [_WORDS * index for index in range(len(self._ranks))]
        self.mine = array("Q", [0] * _WORDS * len(self._ranks))
        self.theirs = array("Q", [0] * _WORDS * len(self._ranks))
        self.expected: Sequence[int] | None = None
        self.value = self._left = 0
        self._carried: Carried | None = None
        self._dtype, self._size = None, -1
        self._rooms: list[Any] = []
        self._came: list[Any] = []
        self._parts: list[Any] = []
        word, tag = MPI.UINT64_T, _TAG
        ours, views = memoryview(self.mine), memoryview(self.theirs)
        places = list(zip(self._places, self._ranks, strict=True))
        receives = [comm.Recv_init((views[at : at + _WORDS], _WORDS, word), rank, tag) for at, rank in places]
        sends = [comm.Send_init((ours[at : at + _WORDS], _WORDS, word), rank, tag) for at, rank in places]
        self._requests = [*receives, *sends]

    def prepare(self, value: int, counts: Counts | None, carried: Carried | Pieces | None) -> None:
        self.value = value
        mine = self.mine
        for at in self._places:
            mine[at] = value
        self.expected = None
        if counts is not None:
            told, self.expected = counts
            for at, rank in zip(self._places, self._ranks, strict=True):
                mine[at + _COUNT] = told[rank]
        if isinstance(carried, Pieces):
            self._pieces, carried = carried, carried.next()
        self._carried = carried
        self._told, self.held = False, True

    def begin(self) -> bool:
        """Tell the others; False, and nothing was done, when there is no place yet for what is carried."""
        carried = self._carried
        if carried is not None:
            own, _, _, _, parts, gives, dealt = carried
            if own.nbytes > ROOM:
                rooms = self._of.rooms
                assert rooms is not None
                if not rooms.free():
                    return False
                self._parts = rooms.give(own, parts, gives, dealt)
                self._took = rooms.took
            else:
                self._pack(own, parts, gives)
        for request in self._requests:
            request.Start()
        self._left = len(self._requests)
        self._told = True
        self.held = self._pieces is not None and self._pieces.left
        return True

    def test(self) -> bool:
        if not self._told and not self.begin():
            return False
        left = self._left
        while left:
            if not self._requests[left - 1].Test():
                self._left = left
                return False
            left -= 1
        self._left = 0
        return True

    def odd_one(self) -> Odd | None:
        value, theirs, expected = self.value, self.theirs, self.expected
        for at in self._places:
            if theirs[at] != value:
                return Odd(self._ranks[at // _WORDS], None)
        if expected is not None:
            for at, rank in zip(self._places, self._ranks, strict=True):
                if theirs[at + _COUNT] != expected[rank]:
                    return Odd(rank, (theirs[at + _COUNT], expected[rank]))
        return None

    def take(self) -> bool:
        carried = self._carried
        if carried is not None:
            self._carried = None
            own, take, ufunc, into, _, _, _ = carried
            if take is not None:
                take(ufunc, self._rank, own, self._parts, into)
            if self._took is not None:
                self._took()
                self._took, self._parts = None, []
        if not self.held:
            self._pieces = None
            return True
        assert self._pieces is not None
        self._carried = self._pieces.next()
        self._told = False
        return False

    def _pack(self, own: Any, parts: Any, gives: bool) -> None:
        """Lay what this member gives into the messages."""
        if own.dtype is not self._dtype or own.size != self._size:
            self._look_at(own)
        self._parts = self._came
        if not gives:
            return
        if parts is None:
            for room in self._rooms:
                room[...] = own
        else:
            for room, rank in zip(self._rooms, self._ranks, strict=True):
                room[...] = parts[rank]

    def _look_at(self, like: Any) -> None:
        """Where parts lie that go to, and come from, the other members."""
        self._rooms, self._came = (
            [
                row[8 * _PART : 8 * _PART + like.nbytes].view(like.dtype)
                for row in np.frombuffer(words, np.uint8).reshape(len(self._ranks), 8 * _WORDS)
            ]
            for words in (self.mine, self.theirs)
        )
        self._dtype, self._size = like.dtype, like.size

    def release(self) -> None:
        for request in self._requests:
            request.Free()
        self._requests = []


class EachToEach(Checks):
    """Fingerprints by messages from each to each. Exchanges that are complete are used again.

    One that finds no place for its parts is held, and those after it: its test begins it once all before are complete.
    """

    def __init__(self, comm: MPI.Intracomm, rooms: Rooms | None) -> None:
        self._comm = comm
        self.rooms = rooms
        """None also when the group is not used any more."""
        self.room = ROOM if rooms is None else SHARED_ROOM
        self._free: list[_Messages] = []
        self._last: _Messages | None = None

    def start(self, value: int, counts: Counts | None, carried: Carried | Pieces | None) -> Exchange:
        held = self._last is not None and self._last.held
        self._last = exchange = self._free.pop() if self._free else _Messages(self._comm, self)
        exchange.prepare(value, counts, carried)
        if not held:
            exchange.begin()
        return exchange

    def done(self, exchange: Exchange) -> None:
        assert isinstance(exchange, _Messages)
        self._free.append(exchange)

    def close(self) -> None:
        self.rooms = None

    def release(self) -> None:
        while self._free:
            self._free.pop().release()


class _Reduction(Exchange):
    """The least and the greatest value; when they differ all members ask for all values, else for counts if any."""

    __slots__ = ("_comm", "_counts", "_extremes", "_gathered", "_mine", "_request", "_told")

    def __init__(self, comm: MPI.Intracomm, value: int, counts: Counts | None) -> None:
        self._comm, self._counts, self.held = comm, counts, False
        self._mine = array("Q", [value, _MASK - value])
        self._extremes = array("Q", [0, 0])
        self._told = array("Q", () if counts is None else counts[0])
        self._gathered: array[int] | None = None
        self._request = comm.Iallreduce((self._mine, 2, MPI.UINT64_T), (self._extremes, 2, MPI.UINT64_T), MPI.MIN)

    @property
    def _agreed(self) -> bool:
        return self._extremes[0] == _MASK - self._extremes[1]

    def test(self) -> bool:
        if not self._request.Test():
            return False
        if self._gathered is not None or (self._agreed and self._counts is None):
            return True
        self._gathered = array("Q", [0] * self._comm.size)
        into = (self._gathered, 1, MPI.UINT64_T)
        if self._agreed:
            self._request = self._comm.Ialltoall((self._told, 1, MPI.UINT64_T), into)
        else:
            self._request = self._comm.Iallgather((self._mine, 1, MPI.UINT64_T), into)
        return self._request.Test()

    def odd_one(self) -> Odd | None:
        if self._gathered is None:
            return None
        if not self._agreed:
            return next(Odd(rank, None) for rank, other in enumerate(self._gathered) if other != self._mine[0])
        assert self._counts is not None
        for rank, (count, expected) in enumerate(zip(self._gathered, self._counts[1], strict=True)):
            if count != expected and rank != self._comm.rank:
                return Odd(rank, (count, expected))
        return None

    def take(self) -> bool:
        return True


class Reduced(Checks):
    """Fingerprints by a reduction, on a communicator where nothing else is called."""

    room = 0

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm

    def start(self, value: int, counts: Counts | None, carried: Carried | Pieces | None) -> Exchange:
        return _Reduction(self._comm, value, counts)

    def done(self, exchange: Exchange) -> None:
        pass

    def close(self) -> None:
        pass

    def release(self) -> None:
        pass
