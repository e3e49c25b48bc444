"""The collective calls of a group, in their order."""

from __future__ import annotations

import collections
import hashlib
import os
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from twister2.spec import fence
from twister2.spec.collectives import OPERATIONS, NativeCollectives, NativeRequest
from twister2.spec.errors import NetworkError, StepMismatchError

from ..home import ASLEEP
from ..limits import descriptors_for
from ..peer import GRACE_S
from ..segment import Segment
from . import flat, staged
from .area import SLOT, Area, Layout
from .windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twister2.spec.collectives import Call

    from ..peer import Peer
    from ..transport import ShmTransport

_MASK: Final = (1 << 64) - 1
_STEP: Final = 0x9E3779B97F4A7C15
"""Spreads the number of a step over the fingerprint."""
_FORMS: Final = 512
_MEET_S: Final = 60.0
"""A member may be stopped for a while; that one has failed is seen by the abort."""
_AT_ONCE: Final = 2 << 20
"""Bytes that all others of a member give in a call of one round, at most: about what the second-level cache holds."""
_READ: Final = _MASK
"""Says instead of a segment's number that an array lies in the member's own memory, at an address."""
_ALL_PARTS: Final = frozenset({"alltoall", "scatter", "reduce_scatter"})
"""What a member gives has a part for each."""


class Request(NativeRequest):
    """A call under way. Calls of a group go on one after the other."""

    __slots__ = ("_group", "done", "receive", "send", "steps", "take", "wanted")

    def __init__(self, group: ShmCollectives, send: Any, receive: Any, wanted: int) -> None:
        self._group, self.send, self.receive, self.wanted = group, send, receive, wanted
        self.done = False
        self.take: Callable[[int, Any, Any], None] | None = None
        self.steps: Iterator[None] | None = None

    def test(self) -> bool:
        if self.done:
            return True
        group = self._group
        if group.open[0] is self:
            if not group.step(self):
                return False
            if group.open:
                group.advance()
            return True
        group.advance()
        return self.done


class ShmCollectives(NativeCollectives):
    """Native collectives through the memory of a group."""

    operations: ClassVar[frozenset[str]] = frozenset(OPERATIONS)
    limits: ClassVar[str] = "ops by name, no counts"

    def __init__(self, transport: ShmTransport, area: Area, members: Sequence[int], peers: Sequence[Peer]) -> None:
        self.area, self.members = area, tuple(members)
        self._transport, self._peers = transport, tuple(peers)
        self._homes = tuple(peer.home for peer in peers)
        self.rank, self.size = area.rank, area.layout.size
        self._words = area.words
        self._others = tuple(member for member in range(self.size) if member != self.rank)
        self._own_entry = tuple(area.entry(parity, self.rank) for parity in (0, 1))
        self._entries = tuple(tuple(area.entry(parity, member) for member in self._others) for parity in (0, 1))
        nonces = {member: transport.peer(member).nonce for member in members if member != transport.rank}
        self.windows = Windows(area, [nonces.get(member, transport.nonce) for member in members])
        self._number = 0
        self._forms: dict[Any, Any] = {}
        self._waiting: collections.deque[tuple[Request, Call, int]] = collections.deque()
        self.open: collections.deque[Request] = collections.deque()
        self._watched = False
        self._closed = False

    # -- calls ---------------------------------------------------------------------------------------------------------

    def accepts(self, call: Call, dtype: Any, nbytes: int) -> bool:
        return nbytes >= 0 and isinstance(call.op, str)

    def start(self, call: Call, send: Any, receive: Any, step: int, fingerprint: int) -> NativeRequest:
        request = Request(self, send, receive, (fingerprint ^ step * _STEP) & _MASK)
        if self.open:
            self.open.append(request)
            self._waiting.append((request, call, 0))
            self._watch()
        else:
            self.open.append(request)
            self._begin(request, call)
        return request

    def _begin(self, request: Request, call: Call) -> None:
        """Give what is to be given, and enter the call."""
        send, receive = request.send, request.receive
        given = receive if send is None else send
        key = (
            id(call),
            None if given is None else (given.shape, given.dtype),
            receive is None or receive.shape,
            send is None,
        )
        form = self._forms.get(key)
        if form is None or form[0] is not call:
            form = self._form(key, call, send, receive)
        _, put, take = form
        self._number = number = self._number + 1
        parity = number & 1
        if put is None:
            request.steps = take(number, send, receive)
        else:
            put(parity, send, receive)
            request.take = take
        words, at = self._words, self._own_entry[parity]
        fence.publish()
        words[at] = request.wanted
        fence.publish()
        words[at + 1] = number
        self.ring()

    def _form(self, key: Any, call: Call, send: Any, receive: Any) -> tuple[Any, Any, Any]:
        if len(self._forms) >= _FORMS:
            self._forms.clear()
        given = receive if send is None else send
        nbytes = 0 if given is None else given.nbytes
        if call.operation in _ALL_PARTS:
            nbytes = max(nbytes, 0 if receive is None or call.operation == "alltoall" else receive.nbytes * self.size)
        if nbytes > SLOT:
            self.area.back()
        form: tuple[Any, Any, Any]
        # below that the rounds of pieces, Python's part of them, cost more than they gain
        if nbytes <= SLOT or (nbytes <= self.area.layout.room_bytes and nbytes * (self.size - 1) <= _AT_ONCE):
            form = (call, *flat.make_form(self.area, call, send, receive))
        else:
            form = (call, None, staged.make_steps(self, call, send, receive))
        self._forms[key] = form
        return form

    def step(self, request: Request) -> bool:
        """Go on with the first open call; whether it is complete."""
        take = request.take
        if take is not None:
            number = self._number
            parity = number & 1
            words, wanted = self._words, request.wanted
            for at in self._entries[parity]:
                if words[at + 1] != number:
                    if not self._watched:
                        self._watch()
                    return False
                if words[at] != wanted:
                    self._mismatch(parity, wanted)
            fence.publish()
            take(parity, request.send, request.receive)
        else:
            assert request.steps is not None
            for _ in request.steps:
                if not self._watched:
                    self._watch()
                return False
        request.done = True
        request.send = request.receive = None
        self.open.popleft()
        if not self.open and self._watched:
            self._watched = False
            self._transport.busy.remove(self)
        return True

    def entered(self, wanted: int) -> bool:
        """Whether all members have entered this call.

        :raises StepMismatchError: one has entered another call.
        """
        number = self._number
        parity = number & 1
        words, all_there = self._words, True
        for at in self._entries[parity]:
            if words[at + 1] != number:
                all_there = False
            elif words[at] != wanted:
                self._mismatch(parity, wanted)
        fence.publish()
        return all_there

    def advance(self) -> bool:
        """Go on with the open calls in their order; whether any has become complete."""
        moved = False
        while self.open:
            first = self.open[0]
            if first.take is None and first.steps is None:
                _, call, _ = self._waiting.popleft()
                self._begin(first, call)
                moved = True
            if not self.step(first):
                break
            moved = True
        return moved

    def _watch(self) -> None:
        self._watched = True
        if self not in self._transport.busy:
            self._transport.busy.append(self)

    def ring(self) -> None:
        """Wake the members that sleep."""
        fence.full()
        for home in self._homes:
            if home[ASLEEP]:  # type: ignore[index]
                for peer in self._peers:
                    peer.wake()
                return

    def post(self, value: int) -> None:
        """Say how far this member has come in a large call."""
        self.area.post(value)
        self.ring()

    # -- arrays that others read where they lie ------------------------------------------------------------------------

    def offer(self, number: int, array: Any, *, readable: bool = False) -> None:
        """Before entering a large call: say where the array lies that this member gives, if others can map it.

        :param readable: others may as well read it from this process's memory. It must stay as it is until they have.
        """
        found = self._transport.where(array, self._peers)
        if readable and array is not None and not found[0] and self.windows.sees:
            start = array.ctypes.data
            if self.windows.readable(start, array.nbytes):
                found = _READ, start
        at = self.area.offer(number & 1, self.rank)
        self._words[at], self._words[at + 1] = found

    def offered(self, number: int, givers: Sequence[int]) -> dict[int, tuple[int, int]] | None:
        """After all have entered: where the givers' arrays lie; None unless all of them can be mapped or read."""
        found = {}
        for member in givers:
            at = self.area.offer(number & 1, member)
            segment = self._words[at]
            if not segment or (segment == _READ and not self.windows.clear()):
                return None
            found[member] = (segment, self._words[at + 1])
        return found

    def fetch(self, member: int, place: tuple[int, int], target: Any) -> Iterator[None]:
        """Copy bytes of another member's array, piece by piece, from where they lie.

        :raises NetworkError: they cannot be read any more, and nobody has ended the attempt.
        """
        segment, start = place
        mapped = None if segment == _READ else self.mapped(member, place, target.dtype, target.size)
        offer, failed = self.area.offer(self._number & 1, member), 0.0
        for first in range(0, target.size, flat.COPIED):
            if first:
                yield
            piece = target[first : first + flat.COPIED]
            if mapped is not None:
                piece[...] = mapped[first : first + flat.COPIED]
                continue
            # an offer that was withdrawn meanwhile may have been changed before it was read
            while True:
                there = self.windows.read(member, start + first, piece.ctypes.data, piece.nbytes)
                if there and self._words[offer] == _READ:
                    break
                failed = failed or time.monotonic()
                if time.monotonic() - failed > GRACE_S:
                    raise NetworkError(
                        f"the memory of worker {self.members[member]} cannot be read any more",
                        why="its process has died, or its array is no longer where it was",
                        remedy="see the log of that worker; change no array before its collective call is complete",
                    )
                yield

    def mapped(self, member: int, place: tuple[int, int], dtype: Any, count: int) -> Any:
        """Another member's array.

        :raises NetworkError: it was not passed on.
        """
        peer = self._transport.peer(self.members[member])
        memory = peer.segment(place[0])
        if memory is None or place[1] + count * dtype.itemsize > len(memory):
            raise NetworkError(
                f"worker {peer.rank} gives an array in memory that this worker does not have",
                why=f"its segment {place[0]} was not passed on",
                remedy="start the job again; see that all workers have the same version of twister2-comm-shm",
            )
        return np.ndarray((count,), dtype, memory, place[1])

    def _mismatch(self, parity: int, wanted: int) -> None:
        fence.publish()  # what was seen may be older than the number beside it
        for member in self._others:
            at = self.area.entry(parity, member)
            if self._words[at + 1] == self._number and self._words[at] != wanted:
                peer = self.members[member]
                raise StepMismatchError(
                    f"worker {peer} is in another collective call than worker {self.members[self.rank]}",
                    why="the fingerprints of their steps differ",
                    remedy="make the same calls in the same order, with arrays of the same form, on all members",
                    details={"peer": peer},
                )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._transport.forget(self)
        self._forms.clear()
        for parity in (0, 1):
            self._words[self.area.offer(parity, self.rank)] = 0
        fence.full()  # from here on nobody takes what it reads of arrays that were given
        self.open.clear()
        self._waiting.clear()
        self.area.close()


def make_group(transport: ShmTransport, members: Sequence[int], turn: int) -> ShmCollectives | None:
    """The collectives of these workers; the first of them makes the memory.

    :param turn: how many groups of these members there were before.
    :raises NetworkError: too little memory; a member is gone.
    """
    me = transport.rank
    rank = list(members).index(me)
    peers = [transport.peer(member) for member in members if member != me]
    if any(peer.home is None for peer in peers):
        return None
    layout = Layout(len(members), transport.stage_bytes)
    text = f"{list(members)} {turn}"
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    fd = _make(transport, layout, peers, number) if rank == 0 else _wait(transport, transport.peer(members[0]), number)
    return ShmCollectives(transport, Area(fd, layout, rank, transport.shared_in), members, peers)


def _make(transport: ShmTransport, layout: Layout, peers: Sequence[Peer], number: int) -> int:
    memory = Segment(layout.n_bytes, transport.folder, backed=False)
    try:
        memory.back(0, layout.stages)
        for peer in peers:
            until = time.monotonic() + _MEET_S
            while not transport.invite(peer, memory.fd, number, memory.size):
                _pause(transport, peer, until)
        with descriptors_for("the memory of a group"):
            return os.dup(memory.fd)
    finally:
        memory.close()


def _wait(transport: ShmTransport, first: Peer, number: int) -> int:
    until = time.monotonic() + _MEET_S
    while number not in first.groups:
        if not transport.listen():
            _pause(transport, first, until)
    fd, _ = first.groups.pop(number)
    return fd


def _pause(transport: ShmTransport, peer: Peer, until: float) -> None:
    aborted = transport.aborted
    if aborted or peer.gone or time.monotonic() > until:
        why = "it has ended" if peer.gone else f"it did not do so within {_MEET_S} s"
        raise NetworkError(
            f"worker {peer.rank} takes no part in making a group",
            why="the attempt was aborted meanwhile" if aborted else why,
            remedy="see the log of that worker",
        )
    time.sleep(0.0002)
