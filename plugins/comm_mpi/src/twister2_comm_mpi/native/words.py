"""Fingerprints by words in memory that the members share (:mod:`rooms`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.fence import publish

from .checks import EachToEach, Odd, Told
from .rooms import ROOM, SLOTS, VALUE

if TYPE_CHECKING:
    from .rooms import Rooms


class Words(EachToEach["Word"]):
    """The exchanges of a group.

    :ivar rooms: its memory; None when the group is not used any more.
    """

    room = ROOM

    def __init__(self, rooms: Rooms) -> None:
        super().__init__()
        self.rooms: Rooms | None = rooms

    def make(self) -> Word:
        assert self.rooms is not None
        return Word(self.rooms)

    def close(self) -> None:
        super().close()
        self._closed, self.rooms = True, None
        self._free.clear()


class Word(Told):
    """:ivar number: counts the exchanges of the group that were told; all members count alike."""

    __slots__ = ("_rooms", "number")

    def __init__(self, rooms: Rooms) -> None:
        super().__init__(rooms.rank)
        self._rooms = rooms
        self.number = 0

    def tell(self) -> bool:
        return self._rooms.tell(self)

    def came(self) -> bool:
        rooms, number, value, same = self._rooms, self.number, self.value, True
        words = rooms.words
        theirs = rooms.theirs[number % SLOTS]
        for at in theirs:
            if words[at] != number:
                return False
        publish()
        for at in theirs:
            if words[at + VALUE] != value:
                same = False
        if not same:
            self.odd = Odd(rooms.odd(number, value), None)
        elif self.counts is not None:
            for rank, count in rooms.counts(number):
                if count != self.counts[1][rank]:
                    self.odd = Odd(rank, (count, self.counts[1][rank]))
                    break
        return True

    def finish(self) -> None:
        self._rooms.finish(self.number)

    def finished(self) -> bool:
        return self._rooms.finished(self.number)

    def took(self) -> None:
        self.parts = []
        rooms = self._rooms
        publish()
        rooms.words[rooms.taken_at] = self.number
