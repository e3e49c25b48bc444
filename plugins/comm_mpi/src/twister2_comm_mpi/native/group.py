"""The collectives of one group of workers.

A member that receives something waits until it knows that all members are in the same call. One that only gives (the
root of a broadcast, the others of a reduction) goes on, and finds a mismatch before its next call completes.
"""

from __future__ import annotations

import collections
import os
import time
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.collectives import OPERATIONS, NativeCollectives, NativeRequest
from twister2.spec.errors import NetworkError, StepMismatchError

from ..world import MPI, drop
from .calls import FROM_ROOT, REDUCTIONS, STARTERS, TO_ROOT, WITH_COUNTS, counts, variant
from .carried import carried, in_pieces
from .messages import Messages
from .reduced import Reduced
from .types import reduction
from .words import Words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.collectives import Call

    from .calls import Several
    from .carried import Carried, Pieces
    from .checks import Checks, Exchange, Odd
    from .reduced import Beside
    from .rooms import Rooms

_FEW = 4
"""Members of a host up to which large calls go through their memory, in pieces: each reads what all others give, while
the library's reductions share the work.
"""

EACH_TO_EACH = 8
"""Members up to which each tells each its fingerprints."""

_SPIN = 32
"""Polls of the MPI library in one test, some microseconds."""

_PROBE = 16
"""Looks in vain at words until the library gets a turn."""

_NO_TAG = 3
"""Of messages that nobody sends."""

_FLOW_S = 0.0005
"""How long the next piece of a call is polled for when one has come: who sleeps instead is found asleep by each."""

_MASK = (1 << 64) - 1
_SPREAD = 0x9E3779B97F4A7C15
_LARGE = MPI.VERSION >= 4
"""Whether the library takes counts of 2**31 and more."""


class MpiRequest(NativeRequest):
    """A call under way.

    :ivar number: count of the group's calls up to and with which all members must be known to agree.
    :ivar ended: the library has nothing to do for it any more, and the others were told so.
    """

    __slots__ = ("_arrays", "_complete", "_group", "_request", "by_library", "ended", "exchange", "number", "step")

    def __init__(
        self,
        group: MpiCollectives,
        request: MPI.Request | Several | None,
        arrays: tuple[Any, Any],
        exchange: Exchange,
        step: int,
        number: int,
    ) -> None:
        self._group, self._request, self._arrays = group, request, arrays
        self.exchange, self.step, self.number = exchange, step, number
        self.by_library = request is not None
        self.ended = request is None
        self._complete = False

    def test(self) -> bool:
        group = self._group
        if not self.ended and group.failure is None and not group.end(self):
            group.verify_all()
            return False
        if (group.verified >= self.number and group.failure is None) or group.verify(self.number):
            if not self._complete:
                self._complete = True
                group.waited_for -= 1
            return True
        return False

    def moved(self, polls: int) -> bool:
        """Whether the library is done with it.

        :raises MPI.Exception: it failed.
        """
        if self._request is not None:
            test = self._request.Test
            for _ in repeat(None, polls):
                if test():
                    self._request = None
                    break
        return self._request is None

    def __del__(self) -> None:
        if self._request is not None:
            drop(self._request, *self._arrays)


class MpiCollectives(NativeCollectives):
    """See :class:`twister2.spec.collectives.NativeCollectives`.

    :ivar verified: calls of this group of which it is known that all members made the same.
    :ivar failure: what the MPI library said of a call that failed.
    :ivar waited_for: calls that were started and are not complete.
    :ivar broken: a call failed or was not the same on all members; something may be under way for ever.
    """

    operations: ClassVar[frozenset[str]] = frozenset(OPERATIONS)
    limits: ClassVar[str] = "dtypes and ops by name that MPI computes as numpy does"

    def __init__(
        self,
        comm: MPI.Intracomm,
        members: Sequence[int],
        beside: Beside | None,
        rooms: Rooms | None,
    ) -> None:
        """:param comm: its ranks are the places in ``members`` (worker ids).
        :param beside: of the same members, in groups of more than :data:`EACH_TO_EACH`.
        :param rooms: memory that the members share.
        """
        self._comm, self._members = comm, tuple(members)
        self._rank = comm.rank
        self._checks = _checks(comm, beside, rooms)
        self._in_pieces = rooms is not None and len(members) <= _FEW
        self._at_once = rooms is not None and rooms.at_once
        self._open: collections.deque[MpiRequest] = collections.deque()
        self._moving: collections.deque[MpiRequest] = collections.deque()
        self._alone = len(members) <= len(os.sched_getaffinity(0))
        """Whether each member can have a core, if they are all here and bound as this one."""
        self._polls = _SPIN if self._alone else 1
        self._in_vain = 0
        self._moved = False
        self._started = 0
        self.failure: MPI.Exception | None = None
        self.verified = 0
        self.broken = False
        self.waited_for = 0

    def accepts(self, call: Call, dtype: Any, nbytes: int) -> bool:
        if call.operation == "barrier":
            return True
        if call.operation not in STARTERS or dtype.hasobject or not dtype.itemsize:
            return False
        if call.operation in REDUCTIONS and reduction(call.op, dtype) is None:
            return False
        return _LARGE or nbytes // dtype.itemsize * len(self._members) < 1 << 31

    def start(self, call: Call, send: Any, receive: Any, step: int, fingerprint: int) -> NativeRequest:
        operation = call.operation
        value = (fingerprint ^ step * _SPREAD) & _MASK
        parts = None
        along: Carried | Pieces | None = None
        room = self._checks.room
        if room and operation != "barrier":
            size = len(self._members)
            along = carried(call, send, receive, self._rank, size, room)
            if along is None and self._in_pieces:
                along = in_pieces(call, send, receive, self._rank, size, room, at_once=self._at_once)
        if along is None and operation in WITH_COUNTS:
            value ^= variant(call)
            parts = counts(call, self._rank, len(self._members), send, receive)
        self._started = number = self._started + 1
        library: MPI.Request | Several | None = None
        try:
            if along is None and operation != "barrier":  # first, so that data moves while the fingerprints are told
                library = STARTERS[operation](self._comm, call, send, receive)
        except (MPI.Exception, OverflowError, ValueError) as error:
            raise self._error(f"{operation} could not be started", error) from error
        finally:
            exchange = self._checks.start(value, parts, along)
            request = MpiRequest(self, library, (send, receive), exchange, step, number)
            self._open.append(request)
        if library is not None:
            self._moving.append(request)
        at_root = self._rank == call.root
        if ((operation in FROM_ROOT and at_root) or (operation in TO_ROOT and not at_root)) and not exchange.held:
            request.number -= 1
        self.waited_for += 1
        return request

    def end(self, request: MpiRequest) -> bool:
        """Tell, in the order of calls, what the library has done; whether this call is among it."""
        moving = self._moving
        try:
            while moving and moving[0].moved(self._polls) and not moving[0].exchange.held:
                moving[0].exchange.finish()
                moving.popleft().ended = True
        except MPI.Exception as error:
            self.failed(error)
        return request.ended

    def verify(self, number: int) -> bool:
        """Whether it is known that all members made the same calls, up to the one with this number, and that the
        library has done them everywhere: should a member die before, what it did elsewhere may be wrong.

        :raises StepMismatchError: a member made another call.
        """
        try:
            while self._open and self.verified < number:
                if not self._verified_one(self._open[0]):
                    return False
        except MPI.Exception as error:
            self.broken = True
            raise self._error("what members tell each other of a collective failed", error) from error
        if self.failure is not None and not self._open:
            raise self._error("a collective failed", self.failure) from self.failure
        return self.verified >= number

    def _verified_one(self, first: MpiRequest) -> bool:
        """Go on with the first open call; False when something has not come yet."""
        exchange = first.exchange
        if not exchange.test():
            self._in_vain += 1
            if not self._in_vain % _PROBE:
                self._comm.Iprobe(MPI.ANY_SOURCE, _NO_TAG)  # messages move by calls of the library, words do not
            return False
        if (
            first.by_library
            and exchange.odd is None
            and self.failure is None
            and not ((first.ended or self.end(first)) and exchange.finished())
        ):
            return False
        if exchange.odd is not None:
            self.broken = True
            raise self._mismatch(exchange.odd, first.step)
        if exchange.take():
            self._open.popleft()
            self.verified += 1
            self._checks.done(exchange)
            return True
        self._moved = True
        until = time.perf_counter() + (_FLOW_S if self._alone else 0.0)
        while not exchange.test():
            if time.perf_counter() >= until:
                return False
        return True

    def _mismatch(self, odd: Odd, step: int) -> StepMismatchError:
        me, peer = self._members[self._rank], self._members[odd.rank]
        if odd.counts is None:
            return StepMismatchError(
                f"workers {me} and {peer} do different things in step {step}",
                why=f"the fingerprint of the step that worker {peer} sent beside the MPI call is another one",
                remedy="let all workers make the same collective calls in the same order, with the same shapes",
                details={"peer": peer, "step": step},
            )
        given, expected = odd.counts
        return StepMismatchError(
            f"worker {peer} gives worker {me} {given} elements where {expected} are expected, in step {step}",
            why="the counts of the two do not fit together",
            remedy="let the counts of each member say what the others really send",
            details={"peer": peer, "step": step, "counts": [given, expected]},
        )

    def verify_returned(self) -> bool:
        """Look for mismatches of calls that have returned already; whether anything moved, also of those that have not.

        What concerns a call that is waited for is raised from there, where its line is known.
        """
        moved, self._moved = self._moved, False
        return (not self.waited_for and bool(self._open) and self.verify_all()) or moved

    def verify_all(self) -> bool:
        """Look for mismatches of all calls; whether anything moved."""
        before = self.verified
        self.verify(self._started)
        return self.verified > before

    def failed(self, error: MPI.Exception) -> None:
        """A call failed; when members made different calls, that is the reason to tell.

        :raises StepMismatchError, NetworkError: at once, or from :meth:`verify` when all fingerprints are known.
        """
        self.failure, self.broken = error, True
        self.verify(self._started)

    def close(self) -> None:
        # A communicator is freed by all its members together, which would be waiting for them; it ends with MPI.
        self.failure = None
        self._checks.close()

    def release(self) -> None:
        """All members are about to finalize MPI: give back what it would complain of."""
        self._checks.release()

    def _error(self, what: str, error: BaseException) -> NetworkError:
        return NetworkError(
            f"{what} among the workers {list(self._members)}",
            why=str(error),
            remedy="see whether all members gave counts that fit together",
        )


def _checks(comm: MPI.Intracomm, beside: Beside | None, rooms: Rooms | None) -> Checks:
    if beside is not None:
        return Reduced(beside)
    return Messages(comm) if rooms is None else Words(rooms)
