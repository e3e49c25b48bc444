"""Fingerprints by messages of MPI, which keeps them apart from its collectives: what a barrier costs.

There is room for a part of a few bytes (:mod:`carried`).
"""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from ..world import MPI
from .carried import ROOM
from .checks import EachToEach, Odd, Told

_TAG, _END_TAG = 1, 2
_COUNT, _PART = 1, 2
_WORDS = 2 + ROOM // 8


class Messages(EachToEach["Message"]):
    """The exchanges of a group, on its communicator."""

    room = ROOM

    def __init__(self, comm: MPI.Intracomm) -> None:
        super().__init__()
        self._comm = comm

    def make(self) -> Message:
        return Message(self._comm)

    def release(self) -> None:
        while self._free:
            self._free.pop().release()


class Message(Told):
    """Persistent requests: starting them again costs a fraction of a microsecond.

    Buffers hold for each other member two words, value and count, and room for a part.
    """

    __slots__ = (
        "_came",
        "_comm",
        "_dtype",
        "_end",
        "_ended",
        "_ending",
        "_ends",
        "_left",
        "_mine",
        "_places",
        "_ranks",
        "_requests",
        "_rooms",
        "_size",
        "_theirs",
    )

    def __init__(self, comm: MPI.Intracomm) -> None:
        super().__init__(comm.rank)
        self._comm = comm
        self._ranks = [rank for rank in range(comm.size) if rank != comm.rank]
        self._places = [_WORDS * index for index in range(len(self._ranks))]
        self._mine = array("Q", [0] * _WORDS * len(self._ranks))
        self._theirs = array("Q", [0] * _WORDS * len(self._ranks))
        self._left = self._ending = 0
        self._end, self._ended = array("Q", [0]), array("Q")
        self._ends: list[MPI.Prequest] = []
        self._dtype, self._size = None, -1
        self._rooms: list[Any] = []
        self._came: list[Any] = []
        word, tag = MPI.UINT64_T, _TAG
        ours, views = memoryview(self._mine), memoryview(self._theirs)
        places = list(zip(self._places, self._ranks, strict=True))
        receives = [comm.Recv_init((views[at : at + _WORDS], _WORDS, word), rank, tag) for at, rank in places]
        sends = [comm.Send_init((ours[at : at + _WORDS], _WORDS, word), rank, tag) for at, rank in places]
        self._requests = [*receives, *sends]

    def tell(self) -> bool:
        mine, counts, carried = self._mine, self.counts, self.carried
        for at in self._places:
            mine[at] = self.value
        if counts is not None:
            for at, rank in zip(self._places, self._ranks, strict=True):
                mine[at + _COUNT] = counts[0][rank]
        if carried is not None:
            own, _, _, _, parts, gives, _ = carried
            self._pack(own, parts, gives)
        for request in self._requests:
            request.Start()
        self._left = len(self._requests)
        return True

    def came(self) -> bool:
        left = self._left
        while left:
            if not self._requests[left - 1].Test():
                self._left = left
                return False
            left -= 1
        self._left = 0
        self.odd = self._odd()
        return True

    def _odd(self) -> Odd | None:
        value, theirs, counts = self.value, self._theirs, self.counts
        for at in self._places:
            if theirs[at] != value:
                return Odd(self._ranks[at // _WORDS], None)
        if counts is not None:
            for at, rank in zip(self._places, self._ranks, strict=True):
                if theirs[at + _COUNT] != counts[1][rank]:
                    return Odd(rank, (theirs[at + _COUNT], counts[1][rank]))
        return None

    def finish(self) -> None:
        if not self._ends:
            comm, places = self._comm, list(enumerate(self._ranks))
            self._ended = array("Q", [0] * len(places))
            ended, value = memoryview(self._ended), memoryview(self._end)
            word, tag = MPI.UINT64_T, _END_TAG
            receives = [comm.Recv_init((ended[at : at + 1], 1, word), rank, tag) for at, rank in places]
            self._ends = [*receives, *[comm.Send_init((value, 1, word), rank, tag) for rank in self._ranks]]
        self._end[0] = self.value
        for request in self._ends:
            request.Start()
        self._ending = len(self._ends)

    def finished(self) -> bool:
        while self._ending:
            if not self._ends[self._ending - 1].Test():
                return False
            self._ending -= 1
        for rank, value in zip(self._ranks, self._ended, strict=True):
            if value != self.value:  # a library that says of what it did not receive that it has come
                self.odd = Odd(rank, None)
        return True

    def took(self) -> None:
        pass

    def _pack(self, own: Any, parts: Any, gives: bool) -> None:
        """Lay what this member gives into the messages."""
        if own.dtype is not self._dtype or own.size != self._size:
            self._look_at(own)
        self.parts = self._came
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
            for words in (self._mine, self._theirs)
        )
        self._dtype, self._size = like.dtype, like.size

    def release(self) -> None:
        """Nothing is under way: give the requests back."""
        for request in (*self._requests, *self._ends):
            request.Free()
        self._requests, self._ends = [], []
