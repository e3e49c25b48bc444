"""The fingerprints beside the calls: each member learns whether all others are in the same call.

They travel on a communicator of the group, by messages (which MPI keeps apart from its collectives): in small groups
from each to each, which is what a barrier costs; in larger ones by a reduction. Values are 64 bits over step and
fingerprint. Where parts differ their sizes travel along, since not every library notices parts that do not fit. In
small groups there is room for a part of a few bytes (:mod:`carried`).
Exchanges of a group are started in the same order by all; MPI keeps that order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ..world import MPI
from .carried import ROOM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .carried import Carried

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
    """One exchange of fingerprints."""

    @abstractmethod
    def test(self) -> bool:
        """Whether it is complete. Never blocks."""

    @abstractmethod
    def odd_one(self) -> Odd | None:
        """After completion: a member that differs; None when all agree."""

    @abstractmethod
    def take(self) -> None:
        """All agree: give the call what was carried for it, if anything."""


class Checks(ABC):
    """Starts exchanges.

    :ivar carry: whether small parts may travel with them.
    """

    carry: bool

    @abstractmethod
    def start(self, value: int, counts: Counts | None, carried: Carried | None) -> Exchange:
        """Tell the others ``value``, learn theirs; also ``counts``, if the call has them, and what is carried."""

    @abstractmethod
    def done(self, exchange: Exchange) -> None:
        """It is complete and may be used again."""

    @abstractmethod
    def release(self) -> None:
        """Give back what the MPI library holds; nothing is under way."""


def checks(comm: MPI.Intracomm, beside: MPI.Intracomm | None) -> Checks:
    """The checks of a group.

    :param comm: the group's communicator. :param beside: another one of the same members, in groups of more than
        :data:`EACH_TO_EACH`; None in smaller ones.
    """
    return EachToEach(comm) if beside is None else Reduced(beside)


class _Messages(Exchange):
    """Persistent requests: starting them again costs a fraction of a microsecond.

    Buffers hold for each other member two words, value and count, and room for a part.
    """

    __slots__ = (
        "_carried",
        "_dtype",
        "_left",
        "_parts",
        "_places",
        "_rank",
        "_ranks",
        "_requests",
        "_rooms",
        "_size",
        "expected",
        "mine",
        "theirs",
        "value",
    )

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._rank = comm.rank
        self._ranks = [rank for rank in range(comm.size) if rank != comm.rank]
        self._places = [_WORDS * index for index in range(len(self._ranks))]
        self.mine = array("Q", [0] * _WORDS * len(self._ranks))
        self.theirs = array("Q", [0] * _WORDS * len(self._ranks))
        self.expected: Sequence[int] | None = None
        self.value = self._left = 0
        self._carried: Carried | None = None
        self._dtype, self._size = None, -1
        self._rooms: list[Any] = []
        self._parts: list[Any] = []
        word, tag = MPI.UINT64_T, _TAG
        ours, views = memoryview(self.mine), memoryview(self.theirs)
        places = list(zip(self._places, self._ranks, strict=True))
        receives = [comm.Recv_init((views[at : at + _WORDS], _WORDS, word), rank, tag) for at, rank in places]
        sends = [comm.Send_init((ours[at : at + _WORDS], _WORDS, word), rank, tag) for at, rank in places]
        self._requests = [*receives, *sends]

    def start(self, value: int, counts: Counts | None, carried: Carried | None) -> None:
        self.value = value
        mine = self.mine
        for at in self._places:
            mine[at] = value
        self.expected = None
        if counts is not None:
            told, self.expected = counts
            for at, rank in zip(self._places, self._ranks, strict=True):
                mine[at + _COUNT] = told[rank]
        self._carried = carried
        if carried is not None:
            own = carried[0]
            if own.dtype is not self._dtype or own.size != self._size:
                self._look_at(own)
            parts = carried[4]
            if parts is None:
                for room in self._rooms:
                    room[...] = own
            else:
                for room, rank in zip(self._rooms, self._ranks, strict=True):
                    room[...] = parts[rank]
        for request in self._requests:
            request.Start()
        self._left = len(self._requests)

    def test(self) -> bool:
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

    def take(self) -> None:
        carried = self._carried
        if carried is not None:
            self._carried = None
            own, take, ufunc, into, _ = carried
            if take is not None:
                take(ufunc, self._rank, own, self._parts, into)

    def _look_at(self, like: Any) -> None:
        """Where parts lie that go to, and come from, the other members."""
        self._rooms, self._parts = (
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
    """Fingerprints by messages from each to each. Exchanges that are complete are used again."""

    carry = True

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._free: list[_Messages] = []

    def start(self, value: int, counts: Counts | None, carried: Carried | None) -> Exchange:
        exchange = self._free.pop() if self._free else _Messages(self._comm)
        exchange.start(value, counts, carried)
        return exchange

    def done(self, exchange: Exchange) -> None:
        assert isinstance(exchange, _Messages)
        self._free.append(exchange)

    def release(self) -> None:
        while self._free:
            self._free.pop().release()


class _Reduction(Exchange):
    """The least and the greatest value; when they differ all members ask for all values, else for counts if any."""

    __slots__ = ("_comm", "_counts", "_extremes", "_gathered", "_mine", "_request", "_told")

    def __init__(self, comm: MPI.Intracomm, value: int, counts: Counts | None) -> None:
        self._comm, self._counts = comm, counts
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

    def take(self) -> None:
        pass


class Reduced(Checks):
    """Fingerprints by a reduction, on a communicator where nothing else is called."""

    carry = False

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm

    def start(self, value: int, counts: Counts | None, carried: Carried | None) -> Exchange:
        return _Reduction(self._comm, value, counts)

    def done(self, exchange: Exchange) -> None:
        pass

    def release(self) -> None:
        pass
