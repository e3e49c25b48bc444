"""How the members of a group come together before MPI is asked for a communicator.

To make one is a call of the library that waits for all members and cannot be left. So they meet first, by messages that
are polled; when all are known to be there the library's call is short, and who never comes is noticed by the abort.
"""

from __future__ import annotations

import hashlib
import struct
import time
from typing import TYPE_CHECKING, Final

from twister2.spec.errors import NetworkError

from .wire import READY
from .world import MPI, drop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MEET_S: Final = 60.0
"""A member may be stopped for a while; that one has failed is seen by the abort."""
_PAUSE_S: Final = 0.0002
_WORD: Final = struct.Struct("<Q")


class Meetings:
    """Meetings of one rank with others.

    :param comm: carries the messages, with a tag of their own; its ranks are the worker ids.
    :param aborted: whether the attempt is over. :param progress: called while waiting; whether anything moved.
    """

    def __init__(self, comm: MPI.Comm, aborted: Callable[[], bool], progress: Callable[[], bool]) -> None:
        self._comm, self._aborted, self._progress = comm, aborted, progress
        self._turns: dict[tuple[int, ...], int] = {}
        self._came: set[tuple[int, int]] = set()

    def meet(self, members: Sequence[int]) -> None:
        """Return when all of them have called this. Rounds of a dissemination: each hears of twice as many as before.

        :raises NetworkError: the attempt was aborted, or somebody did not come within :data:`MEET_S`.
        """
        group = tuple(members)
        turn = self._turns[group] = self._turns.get(group, 0) + 1
        me, size, distance, until = group.index(self._comm.rank), len(group), 1, time.monotonic() + MEET_S
        while distance < size:
            word = _word(group, turn, distance)
            data = _WORD.pack(word)
            sending = self._comm.Isend([data, MPI.BYTE], group[(me + distance) % size], READY)
            expected = (group[(me - distance) % size], word)
            try:
                self.wait(lambda expected=expected: self._has_come(expected), group, until)  # type: ignore[misc]
                self.wait(sending.Test, group, until)
            except BaseException:  # an abort
                drop(sending, data)
                raise
            distance *= 2

    def wait(self, ready: Callable[[], bool], members: Sequence[int], until: float | None = None) -> None:
        """Poll until ``ready()``.

        :param until: when to give up (clock ``time.monotonic``), :data:`MEET_S` from now by default.
        :raises NetworkError: as :meth:`meet`.
        """
        until = time.monotonic() + MEET_S if until is None else until
        while not ready():
            aborted = self._aborted()
            if aborted or time.monotonic() > until:
                raise NetworkError(
                    f"the group of the workers {list(members)} was not made",
                    why="the attempt was aborted meanwhile"
                    if aborted
                    else f"a member took no part in it within {MEET_S:g} s",
                    remedy="see the logs of these workers",
                )
            if not self._progress():
                time.sleep(_PAUSE_S)

    def _has_come(self, expected: tuple[int, int]) -> bool:
        status = MPI.Status()
        while (message := self._comm.Improbe(MPI.ANY_SOURCE, READY, status)) is not None:
            buffer = bytearray(_WORD.size)
            message.Recv([buffer, MPI.BYTE])  # it has arrived: this only copies
            self._came.add((status.Get_source(), _WORD.unpack(buffer)[0]))
        if expected not in self._came:
            return False
        self._came.discard(expected)
        return True


def _word(group: tuple[int, ...], turn: int, distance: int) -> int:
    """Tells a round of a meeting from those of other groups, which may come in between."""
    text = f"{group} {turn} {distance}".encode()
    (word,) = _WORD.unpack(hashlib.blake2b(text, digest_size=_WORD.size).digest())
    return int(word)
