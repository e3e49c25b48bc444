"""Fingerprints by a reduction, which larger groups use."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from ..world import MPI
from .checks import Checks, Exchange, Odd

if TYPE_CHECKING:
    from .carried import Carried, Pieces
    from .checks import Counts

_MASK = (1 << 64) - 1


class Beside(NamedTuple):
    """Communicators of the members for this only. All call the same on each in the same order, which is another one on
    each: that of the calls; of what is asked as they are verified; of their ends.
    """

    told: MPI.Intracomm
    asked: MPI.Intracomm
    ended: MPI.Intracomm


class _Reduction(Exchange):
    """The least and the greatest value; when they differ all members ask for all values, else for counts if any."""

    __slots__ = ("_comms", "_counts", "_ended", "_extremes", "_gathered", "_mine", "_request", "_sent")

    def __init__(self, comms: Beside, value: int, counts: Counts | None) -> None:
        self._comms, self._counts, self.held, self.odd = comms, counts, False, None
        self._mine = array("Q", [value])
        self._sent: list[array[int]] = []
        """What a request reads, which does not hold it itself."""
        self._extremes = array("Q", [0, 0])
        self._gathered: array[int] | None = None
        self._request = self._reduced(comms.told, value, self._extremes)
        self._ended: tuple[MPI.Request, array[int]] | None = None

    def _reduced(self, comm: MPI.Intracomm, value: int, into: array[int]) -> MPI.Request:
        sent = array("Q", [value, _MASK - value])
        self._sent.append(sent)
        return comm.Iallreduce((sent, 2, MPI.UINT64_T), (into, 2, MPI.UINT64_T), MPI.MIN)

    @staticmethod
    def _agreed(extremes: array[int]) -> bool:
        return extremes[0] == _MASK - extremes[1]

    def test(self) -> bool:
        if not self._request.Test():
            return False
        agreed = self._agreed(self._extremes)
        if self._gathered is None:
            if agreed and self._counts is None:
                return True
            self._gathered = array("Q", [0] * self._comms.told.size)
            into = (self._gathered, 1, MPI.UINT64_T)
            if agreed:
                assert self._counts is not None
                self._sent.append(array("Q", self._counts[0]))
                self._request = self._comms.asked.Ialltoall((self._sent[-1], 1, MPI.UINT64_T), into)
            else:
                self._request = self._comms.asked.Iallgather((self._mine, 1, MPI.UINT64_T), into)
            if not self._request.Test():
                return False
        self.odd = self._odd(self._gathered, agreed)
        return True

    def _odd(self, gathered: array[int], agreed: bool) -> Odd | None:
        if not agreed:
            return next(Odd(rank, None) for rank, other in enumerate(gathered) if other != self._mine[0])
        assert self._counts is not None
        for rank, (count, expected) in enumerate(zip(gathered, self._counts[1], strict=True)):
            if count != expected and rank != self._comms.told.rank:
                return Odd(rank, (count, expected))
        return None

    def finish(self) -> None:
        into = array("Q", [0, 0])
        # another value: one that is left from before does not count
        self._ended = self._reduced(self._comms.ended, ~self._mine[0] & _MASK, into), into

    def finished(self) -> bool:
        assert self._ended is not None
        request, extremes = self._ended
        if not request.Test():
            return False
        if not self._agreed(extremes):  # a library that says so of what it did not do
            self.odd = Odd((self._comms.told.rank + 1) % self._comms.told.size, None)
        return True

    def take(self) -> bool:
        return True


class Reduced(Checks):
    """Fingerprints by a reduction."""

    room = 0

    def __init__(self, comms: Beside) -> None:
        self._comms = comms

    def start(self, value: int, counts: Counts | None, carried: Carried | Pieces | None) -> Exchange:
        return _Reduction(self._comms, value, counts)

    def done(self, exchange: Exchange) -> None:
        pass

    def close(self) -> None:
        pass

    def release(self) -> None:
        pass
