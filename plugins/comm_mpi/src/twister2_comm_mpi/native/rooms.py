"""Memory that the members of a group on one host share: the fingerprints lie there and, up to some size, what a call
moves.

Each member writes its own words and where its own parts lie: first the parts, then the fingerprint, then its number,
which tells that all is there. A count tells that a member has taken what it needs, so that the place is used again. The
memory has no name: who is killed leaves nothing.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import stat
import weakref
import zlib
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from twister2.spec.fence import publish

from ..world import MPI, finish

if TYPE_CHECKING:
    from ..world import Wait
    from .words import Word

ROOM = 1 << 19
"""Bytes that a member can give the others in one call. Two of them have to stay in a processor's second-level cache."""

MOST = 64
"""Groups of a process that have such memory at one time: each has a descriptor open."""

_PLACES = 2
"""Calls of which the parts are there at once: a member that only gives need not wait for the others."""
SLOTS = 8
"""Calls of which the fingerprints are there at once."""
_LINE = 8
"""Words of a line of the cache: each member begins with one of its own, where it counts what it has taken."""
_NONCE = 1
VALUE, _ENDED, _COUNTS = 1, 2, _LINE
_FORMS = 256
_TOLD = 6


_living: weakref.WeakSet[Rooms] = weakref.WeakSet()


def _block(size: int) -> int:
    """Words of one fingerprint: number, value, the number again when the library has done the call, and on the lines
    behind it elements that each member is given.
    """
    return _COUNTS + -(-size // _LINE) * _LINE


def _head(size: int) -> int:
    """Bytes before the parts."""
    nbytes = 8 * size * (_LINE + SLOTS * _block(size))
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE


class Rooms:
    """Exchanges that go this way are counted alike by all members.

    :ivar words: the memory before the parts. :ivar theirs: for each slot, where the words of the others begin.
    :ivar taken_at: where this member counts what it has taken. :ivar at_once: whether all can have a core at one time;
    the same on all members.
    """

    def __init__(self, rank: int, size: int, memory: mmap.mmap, *, at_once: bool) -> None:
        self.rank, self._size, self._memory, self.at_once = rank, size, memory, at_once
        self._parts_at = _head(size)
        self.words = memoryview(memory)[: self._parts_at].cast("Q")
        self._others = [other for other in range(size) if other != rank]
        self.taken_at, self._all_taken_at = _LINE * rank, [_LINE * other for other in self._others]
        block = _block(size)
        slots = [[_LINE * size + (slot * size + member) * block for member in range(size)] for slot in range(SLOTS)]
        self._own = [slot[rank] for slot in slots]
        self.theirs = [[slot[other] for other in self._others] for slot in slots]
        self._told = self._given = 0
        self._held = [0] * _PLACES
        """Exchanges whose parts lie in the places."""
        self._forms: dict[tuple[Any, int, bool], list[tuple[list[Any], list[Any]]]] = {}
        _living.add(self)

    def tell(self, exchange: Word) -> bool:
        """Lay down what this member gives with an exchange, and tell the others that it is there; False, and nothing
        was done, when they have not yet taken what lies in that place.
        """
        number, words = self._told + 1, self.words
        before, carried, place = number - SLOTS, exchange.carried, self._given % _PLACES
        if carried is not None and self._held[place] > before:
            before = self._held[place]
        for at in self._all_taken_at:
            if words[at] < before:
                return False
        if carried is not None:
            own, _, _, _, parts, gives, dealt = carried
            key = (own.dtype, own.size, dealt)
            mine, exchange.parts = (self._forms.get(key) or self._form(key))[place]
            self._given += 1
            self._held[place] = number
            if not gives:
                pass
            elif dealt:
                for to, there in zip(self._others, mine, strict=True):
                    there[...] = parts[to]
            else:
                mine[0][...] = own
        at = self._own[number % SLOTS]
        words[at + VALUE] = exchange.value
        if exchange.counts is not None:
            for rank, count in enumerate(exchange.counts[0]):
                words[at + _COUNTS + rank] = count
        publish()
        words[at] = self._told = exchange.number = number
        return True

    def odd(self, number: int, value: int) -> int:
        """The first member that told another value."""
        told = zip(self._others, self.theirs[number % SLOTS], strict=True)
        return next(rank for rank, at in told if self.words[at + VALUE] != value)

    def counts(self, number: int) -> list[tuple[int, int]]:
        """The other members, and elements that they give this one."""
        words, told = self.words, zip(self._others, self.theirs[number % SLOTS], strict=True)
        return [(rank, words[at + _COUNTS + self.rank]) for rank, at in told]

    def finish(self, number: int) -> None:
        """Tell that the library is done with the call of an exchange."""
        self.words[self._own[number % SLOTS] + _ENDED] = number

    def finished(self, number: int) -> bool:
        """Whether all others have told so."""
        words = self.words
        for at in self.theirs[number % SLOTS]:  # noqa: SIM110 - as above
            if words[at + _ENDED] != number:
                return False
        return True

    def _form(self, key: tuple[Any, int, bool]) -> list[tuple[list[Any], list[Any]]]:
        """For each place of a call: where this member's parts lie, and those of the others that are for this one."""
        if len(self._forms) >= _FORMS:
            self._forms.clear()
        dtype, n, dealt = key
        nbytes = n * dtype.itemsize

        def view(place: int, giver: int, taker: int) -> Any:
            at = self._parts_at + (place * self._size + giver) * ROOM
            if dealt:  # to each but itself
                at += (taker - (taker > giver)) * nbytes
            return np.ndarray((n,), dtype, self._memory, at)

        me, others = self.rank, self._others
        form = self._forms[key] = [
            ([view(place, me, other) for other in others], [view(place, other, me) for other in others])
            for place in range(_PLACES)
        ]
        return form


def rooms(comm: MPI.Intracomm, kernel: str, wait: Wait) -> Rooms | None:
    """Make them, together with all members; None, on all of them, when one of them cannot.

    :param kernel: text that is equal for processes of one kernel; empty where it is not known.
    """
    size, here = _head(comm.size) + _PLACES * comm.size * ROOM, zlib.crc32(kernel.encode())
    memory, descriptor, told = None, -1, array("Q", [0] * _TOLD)
    try:
        with contextlib.suppress(OSError, AttributeError):  # there is none, or none on this system
            if comm.rank == 0 and kernel:
                descriptor = os.memfd_create("twister2-mpi", os.MFD_CLOEXEC)
                os.ftruncate(descriptor, size)
                memory, made, nonce = mmap.mmap(descriptor, size), os.fstat(descriptor), secrets.randbits(63)
                memoryview(memory)[: mmap.PAGESIZE].cast("Q")[_NONCE] = nonce
                told = array("Q", [here, os.getpid(), descriptor, made.st_dev, made.st_ino, nonce])
        finish(wait, comm.Ibcast((told, _TOLD, MPI.UINT64_T), 0), told)
        if comm.rank and told[0] == here and kernel:
            with contextlib.suppress(OSError):
                memory = _attach(size, *told[1:])
        # members may be bound to different numbers of cores
        mine = array("B", [memory is not None and len(_living) < MOST, comm.size <= len(os.sched_getaffinity(0))])
        least = array("B", [0, 0])
        finish(wait, comm.Iallreduce((mine, 2, MPI.UINT8_T), (least, 2, MPI.UINT8_T), MPI.MIN), mine, least)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    if memory is None or not least[0]:
        return None
    return Rooms(comm.rank, comm.size, memory, at_once=bool(least[1]))


def _attach(size: int, process: int, descriptor: int, device: int, inode: int, nonce: int) -> mmap.mmap | None:
    """The memory that another process made; None when what is found is something else.

    :raises OSError: there is no such process here, or it is another user's.
    """
    path = f"/proc/{process}/fd/{descriptor}"
    found = os.stat(path)
    if (found.st_dev, found.st_ino, found.st_size) != (device, inode, size) or not stat.S_ISREG(found.st_mode):
        return None  # ids of processes are those of another container
    mine = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        memory = mmap.mmap(mine, size)
    finally:
        os.close(mine)
    return memory if memoryview(memory)[: mmap.PAGESIZE].cast("Q")[_NONCE] == nonce else None
