"""Memory that the members of a group on one host share: what a call moves lies there, up to some size.

Each member writes where its own parts lie. The fingerprints tell that they are there; a count in the memory tells that
a member has taken what it needs, so that the place is used again. The memory has no name: who is killed leaves nothing.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import stat
import threading
import weakref
import zlib
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from ..world import MPI, finish

if TYPE_CHECKING:
    from ..world import Wait

ROOM = 1 << 18
"""Bytes that a member can give the others in one call."""

MOST = 64
"""Groups of a process that have such memory at one time: each has a descriptor open."""

_PLACES = 2
"""Calls of which the parts are there at once: a member that only gives need not wait for the others."""
_HEAD = mmap.PAGESIZE
_APART = 8
"""Words from one member's count to the next one's: each has a line of the cache."""
_NONCE = _HEAD // 8 - 1
_FORMS = 256
_TOLD = 6


_living: weakref.WeakSet[Rooms] = weakref.WeakSet()


class Rooms:
    """Calls that go this way are counted alike by all members."""

    def __init__(self, rank: int, size: int, memory: mmap.mmap) -> None:
        self._rank, self._size, self._memory = rank, size, memory
        self._words = memoryview(memory)[:_HEAD].cast("Q")
        self._others = [other for other in range(size) if other != rank]
        self._counts = [_APART * other for other in self._others]
        self._given = self._taken = 0
        self._forms: dict[tuple[Any, int, bool], list[tuple[list[Any], list[Any]]]] = {}
        self._fence = threading.Lock()
        _living.add(self)

    def free(self) -> bool:
        """Whether all others have taken what lies where the next call's parts go."""
        before, words = self._given - _PLACES, self._words
        for at in self._counts:  # noqa: SIM110 - a generator takes several times as long
            if words[at] <= before:
                return False
        return True

    def give(self, own: Any, parts: Any, gives: bool, dealt: bool) -> list[Any]:
        """Lay down what this member gives in the next call.

        :param own: an array like all members' parts, and what is given to all; :param parts: to each member by rank,
            where these differ; :param dealt: whether they do. :param gives: whether this member gives anything.
        :returns: where the others' parts will be, by rank.
        """
        key = (own.dtype, own.size, dealt)
        form = self._forms.get(key)
        if form is None:
            form = self._form(key)
        mine, theirs = form[self._given % _PLACES]
        self._given += 1
        if gives:
            if dealt:
                for to, place in zip(self._others, mine, strict=True):
                    place[...] = parts[to]
            else:
                mine[0][...] = own
        return theirs

    def took(self) -> None:
        """A call is over here."""
        self._taken += 1
        with self._fence:  # keeps the order of what was read and of this, on machines that do not
            pass
        self._words[_APART * self._rank] = self._taken

    def _form(self, key: tuple[Any, int, bool]) -> list[tuple[list[Any], list[Any]]]:
        """For each place of a call: where this member's parts lie, and those of the others that are for this one."""
        if len(self._forms) >= _FORMS:
            self._forms.clear()
        dtype, n, dealt = key
        nbytes = n * dtype.itemsize

        def view(place: int, giver: int, taker: int) -> Any:
            at = _HEAD + (place * self._size + giver) * ROOM
            if dealt:  # to each but itself
                at += (taker - (taker > giver)) * nbytes
            return np.ndarray((n,), dtype, self._memory, at)

        me, others = self._rank, self._others
        form = self._forms[key] = [
            ([view(place, me, other) for other in others], [view(place, other, me) for other in others])
            for place in range(_PLACES)
        ]
        return form


def rooms(comm: MPI.Intracomm, kernel: str, wait: Wait) -> Rooms | None:
    """Make them, together with all members; None, on all of them, when one of them cannot.

    :param kernel: text that is equal for processes of one kernel; empty where it is not known.
    """
    size, here = _HEAD + _PLACES * comm.size * ROOM, zlib.crc32(kernel.encode())
    memory, descriptor, told = None, -1, array("Q", [0] * _TOLD)
    try:
        with contextlib.suppress(OSError, AttributeError):  # there is none, or none on this system
            if comm.rank == 0 and kernel:
                descriptor = os.memfd_create("twister2-mpi", os.MFD_CLOEXEC)
                os.ftruncate(descriptor, size)
                memory, made, nonce = mmap.mmap(descriptor, size), os.fstat(descriptor), secrets.randbits(63)
                memoryview(memory)[:_HEAD].cast("Q")[_NONCE] = nonce
                told = array("Q", [here, os.getpid(), descriptor, made.st_dev, made.st_ino, nonce])
        finish(wait, comm.Ibcast((told, _TOLD, MPI.UINT64_T), 0))
        if comm.rank and told[0] == here and kernel:
            with contextlib.suppress(OSError):
                memory = _attach(size, *told[1:])
        mine = array("B", [memory is not None and len(_living) < MOST])
        least = array("B", [0])
        finish(wait, comm.Iallreduce((mine, 1, MPI.UINT8_T), (least, 1, MPI.UINT8_T), MPI.MIN))
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return Rooms(comm.rank, comm.size, memory) if memory is not None and least[0] else None


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
    return memory if memoryview(memory)[:_HEAD].cast("Q")[_NONCE] == nonce else None
