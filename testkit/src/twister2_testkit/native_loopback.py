"""A transport between threads that has collectives of its own, simple enough to be right by reading.

A call is complete on a member as soon as everybody has made it whom the operation makes it wait for.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np

from twister2.spec.collectives import OPERATIONS, Call, NativeCollectives, NativeRequest
from twister2.spec.errors import StepMismatchError
from twister2_testkit.array_cases import UFUNCS
from twister2_testkit.loopback import LoopbackTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.comm import TransportContext, TransportFacts

_lock = threading.Lock()
_rooms: dict[tuple[str, tuple[int, ...], int], Room] = {}


@attrs.define
class Made:
    """One member's part of a call: what it gave is copied, so that it may go on."""

    call: Call
    step: int
    fingerprint: int
    send: Any


class Room:
    """Where the members of a group meet: by number of the call, what each member made."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls: dict[int, dict[int, Made]] = {}
        self.through: dict[int, int] = {}
        """By call: how many members are through with it."""


class NativeLoopback(LoopbackTransport):
    """The loopback transport with native collectives."""

    facts: ClassVar[TransportFacts] = attrs.evolve(LoopbackTransport.facts, native=frozenset(OPERATIONS))
    collectives: ClassVar[type[RoomCollectives]]

    def __init__(self, context: TransportContext, capacity: int = 64) -> None:
        super().__init__(context, capacity)
        self._made: dict[tuple[int, ...], int] = {}

    def native(self, members: Sequence[int]) -> NativeCollectives | None:
        key = tuple(members)
        count = self._made[key] = self._made.get(key, 0) + 1
        with _lock:
            room = _rooms.setdefault((self._context.session, key, count), Room(len(key)))
        return self.collectives(room, key, self._context.rank)

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        super().close(aborted=aborted, deadline_s=deadline_s)
        with _lock:
            for key in [key for key in _rooms if key[0] == self._context.session]:
                del _rooms[key]


class RoomCollectives(NativeCollectives):
    """One member's end of a room."""

    operations: ClassVar[frozenset[str]] = frozenset(OPERATIONS)

    def __init__(self, room: Room, members: tuple[int, ...], worker_id: int) -> None:
        self.room, self.members, self.rank = room, members, members.index(worker_id)
        self.count = 0

    def accepts(self, call: Call, dtype: Any, nbytes: int) -> bool:
        return True

    def start(self, call: Call, send: Any, receive: Any, step: int, fingerprint: int) -> NativeRequest:
        self.count += 1
        given = receive if send is None else send
        made = Made(call, step, fingerprint, None if given is None else given.reshape(-1).copy())
        with _lock:
            self.room.calls.setdefault(self.count, {})[self.rank] = made
        return self.request(self.count, made, receive)

    def request(self, number: int, made: Made, receive: Any) -> NativeRequest:
        """What :meth:`start` returns."""
        return RoomRequest(self, number, made, receive)


class RoomRequest(NativeRequest):
    """A call of a room. Everybody waits for everybody, but for the roots and members who only give."""

    def __init__(self, collectives: RoomCollectives, number: int, made: Made, receive: Any) -> None:
        self.collectives, self.number, self.made, self.receive = collectives, number, made, receive
        self.done = False

    def test(self) -> bool:
        if self.done:
            return True
        collectives = self.collectives
        room, rank = collectives.room, collectives.rank
        with _lock:
            for number in sorted(room.calls):  # earlier ones, which did not wait, as well
                mine = room.calls[number].get(rank) if number <= self.number else None
                for other, theirs in room.calls[number].items():
                    if mine is not None and not self.same(mine, theirs):
                        raise StepMismatchError(
                            f"worker {collectives.members[other]} is in another call",
                            why="its fingerprint differs",
                            remedy="let all members make the same calls",
                            details={"peer": collectives.members[other]},
                        )
            calls = room.calls[self.number]
            if not self.complete(calls):
                return False
            calls = dict(calls)
            room.through[self.number] = room.through.get(self.number, 0) + 1
            if room.through[self.number] == room.size:
                del room.calls[self.number], room.through[self.number]
        self.finish(calls)
        self.done = True
        return True

    def same(self, mine: Made, theirs: Made) -> bool:
        """Whether two members are in the same call."""
        return (mine.step, mine.fingerprint) == (theirs.step, theirs.fingerprint)

    def complete(self, calls: dict[int, Made]) -> bool:
        """Whether all that this member needs has come."""
        call, rank = self.made.call, self.collectives.rank
        if call.operation in ("broadcast", "scatter"):
            return rank == call.root or call.root in calls
        if call.operation in ("reduce", "gather") and rank != call.root:
            return True
        if call.operation in ("scan", "exscan"):
            return all(other in calls for other in range(rank))
        return len(calls) == self.collectives.room.size

    def finish(self, calls: dict[int, Made]) -> None:
        """Put the result where it belongs."""
        call, rank, receive = self.made.call, self.collectives.rank, self.receive
        if receive is None:
            return
        out, operation = receive.reshape(-1), call.operation
        given = [calls[other].send if other in calls else None for other in range(self.collectives.room.size)]
        if operation == "broadcast":
            out[:] = given[call.root]
        elif operation in ("gather", "allgather"):
            out[:] = np.concatenate([part for part in given if part is not None])
        elif operation == "scatter":
            out[:] = _part(given[call.root], calls[call.root].call.send_counts, rank, len(given))
        elif operation == "alltoall":
            out[:] = np.concatenate(
                [_part(given[other], calls[other].call.send_counts, rank, len(given)) for other in range(len(given))]
            )
        elif operation != "barrier":
            self.reduce(call, given, rank, out)

    def reduce(self, call: Call, given: list[Any], rank: int, out: Any) -> None:
        """The reductions, in the order of ranks."""
        last = {"scan": rank + 1, "exscan": rank}.get(call.operation, len(given))
        if not last:
            return
        total = given[0].copy()
        for other in given[1:last]:
            UFUNCS[str(call.op)](total, other, out=total)
        if call.operation == "reduce_scatter":
            total = _part(total, call.receive_counts, rank, len(given))
        out[:] = total


def _part(array: Any, counts: Sequence[int] | None, rank: int, size: int) -> Any:
    lengths = list(counts) if counts is not None else [array.size // size] * size
    start = sum(lengths[:rank])
    return array[start : start + lengths[rank]]


NativeLoopback.collectives = RoomCollectives
