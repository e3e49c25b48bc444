"""Collective calls on small arrays without a step's ports and credits: each member sends its part directly to every
member that needs it, in one message, and combines what it gets in the order of ranks.

What many bytes or many members make worth more rounds is left to the algorithms of the network module.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import numpy as np

from twister2.spec.collectives import OPERATIONS, NativeCollectives, NativeRequest
from twister2.spec.errors import StepMismatchError
from twister2.spec.reducers import UFUNCS

from .ways import SENT
from .wire import CALL, HEADER, MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.batch import Buffer
    from twister2.spec.collectives import Call
    from twister2.spec.comm import Send

    from .lane import First
    from .transport import TcpTransport

Part: TypeAlias = "tuple[int, int, First]"
"""What a member sent in a call: the call's number in the group, what tells it from other calls, and the message."""
MOST: Final = 8
"""Members of a group, at most."""
SMALL: Final = 64 << 10
"""Bytes that a member sends to another in one call, at most."""
DATA: Final = HEADER.size + CALL.size
"""Where the data of a message begins."""
_COPIED: Final = 4 << 10
"""Up to so many bytes, a copy costs less than a view."""
_MASK: Final = (1 << 64) - 1
SPREAD: Final = 0x9E3779B97F4A7C15
"""Spreads the number of a step over the fingerprint."""
_FORMS: Final = 512
_BYTES: Final = np.dtype("uint8")
_PARTED: Final = frozenset({"alltoall", "reduce_scatter", "scatter"})
"""What a member gives has a part for each."""
_REDUCING: Final = frozenset({"reduce", "allreduce", "scan", "exscan", "reduce_scatter"})


class Form:
    """What this member does in a call of one description.

    :ivar targets: ranks that need its part; :ivar sources: ranks whose part it needs, itself among them where it
        combines or collects its own.
    """

    __slots__ = ("awaits", "call", "operation", "parted", "sources", "targets", "ufunc")

    def __init__(self, call: Call, rank: int, size: int) -> None:
        self.call, self.operation = call, call.operation
        everybody, root = range(size), call.root
        targets, sources = {
            "barrier": (everybody, everybody),
            "broadcast": (everybody if rank == root else (), (root,)),
            "scatter": (everybody if rank == root else (), (root,)),
            "reduce": ((root,), everybody if rank == root else ()),
            "gather": ((root,), everybody if rank == root else ()),
            "scan": (range(rank, size), range(rank + 1)),
            "exscan": (range(rank + 1, size), range(rank)),
        }.get(self.operation, (everybody, everybody))
        self.targets = tuple(target for target in targets if target != rank)
        self.sources = tuple(sources)
        self.awaits = tuple(source for source in sources if source != rank)
        self.parted = self.operation in _PARTED
        self.ufunc = getattr(np, UFUNCS[call.op]) if self.operation in _REDUCING and isinstance(call.op, str) else None


class Request(NativeRequest):
    """A call under way."""

    __slots__ = ("done", "form", "given", "group", "left", "number", "receive", "unsent", "wanted")

    def __init__(self, group: TcpCollectives, form: Form, given: Any, receive: Any, number: int, wanted: int) -> None:
        self.group, self.form, self.given, self.receive = group, form, given, receive
        self.number, self.wanted = number, wanted
        self.unsent: collections.deque[tuple[int, bytes, Buffer, int] | Send] | None = None
        """Messages that were refused, and such as were taken and have not left this process."""
        self.left = 0
        """How many of the awaited parts are known to be there."""
        self.done = False

    def test(self) -> bool:
        return self.done or self.group.advance(self)


class TcpCollectives(NativeCollectives):
    """One member's end of a group.

    Messages from a member come in the order of its calls; so the first one that was not used yet is that of the first
    open call which needs one, or the members are in different calls.
    """

    operations: ClassVar[frozenset[str]] = frozenset(OPERATIONS)
    limits: ClassVar[str] = f"up to {SMALL >> 10} KiB from a member to another, ops by name, no counts"
    wakes: ClassVar[bool] = True

    def __init__(self, transport: TcpTransport, number: int, members: Sequence[int], worker_id: int) -> None:
        self._transport, self._number, self._members = transport, number, tuple(members)
        self._rank, self._size = self._members.index(worker_id), len(members)
        self.spins = not transport.threaded
        self._calls = 0
        self._open: collections.deque[Request] = collections.deque()
        self._unsent = 0
        """Calls with messages that were refused."""
        self._came: tuple[collections.deque[Part], ...] = tuple(collections.deque() for _ in members)
        self._ranks = {member: rank for rank, member in enumerate(members)}
        self._forms: dict[int, Form] = {}

    # -- calls ---------------------------------------------------------------------------------------------------------

    def accepts(self, call: Call, dtype: Any, nbytes: int) -> bool:
        return 0 <= nbytes <= SMALL and isinstance(call.op, str)

    def start(self, call: Call, send: Any, receive: Any, step: int, fingerprint: int) -> NativeRequest:
        form = self._forms.get(id(call))
        if form is None or form.call is not call:
            form = self._form(call)
        given = receive if send is None else send
        self._calls = number = self._calls + 1
        wanted = (fingerprint ^ step * SPREAD) & _MASK
        request = Request(self, form, given, receive, number, wanted)
        targets = form.targets
        if targets:
            size = 0 if given is None else given.nbytes
            if form.parted:
                size //= self._size
                parts = given.reshape(self._size, -1) if size else given.reshape(self._size, 0)
                data = [parts[target].tobytes() for target in targets]
            else:
                whole = given.tobytes() if 0 < size <= _COPIED else given.reshape(-1).view(_BYTES).data if size else b""
                data = [whole] * len(targets)
            words = CALL.pack(self._number, number, wanted, size)
            self._send(request, words, targets, data, size)
        self._open.append(request)
        return request

    def advance(self, request: Request) -> bool:
        """Go on with the open calls, in their order, until this one is complete or nothing is left to do."""
        take_one = self._transport.take_one
        while True:
            while self._open and self._try(self._open[0]):
                self._open.popleft()
            if request.done:
                return True
            if take_one():
                continue
            if not self._unsent or not self._transport.progress():  # which goes on dialling
                return False

    def deliver(self, peer: int, part: Part) -> None:
        """Keep what came from another member until the call is made that needs it.

        :raises MalformedError: it is not a member.
        """
        rank = self._ranks.get(peer, self._rank)
        if rank == self._rank:
            raise MalformedError(f"worker {peer} is no member of the group {sorted(self._members)}")
        self._came[rank].append(part)

    def close(self) -> None:
        self._transport.forget(self._number)
        self._open.clear()
        self._unsent = 0
        self._forms.clear()
        for member, queue in zip(self._members, self._came, strict=True):
            while queue:
                self._transport.consumed(member, queue.popleft()[2])

    # -- inside --------------------------------------------------------------------------------------------------------

    def _form(self, call: Call) -> Form:
        if len(self._forms) >= _FORMS:
            self._forms.clear()
        form = self._forms[id(call)] = Form(call, self._rank, self._size)
        return form

    def _send(self, request: Request, words: bytes, targets: Sequence[int], data: Sequence[Buffer], size: int) -> None:
        post, members = self._transport.post, self._members
        behind = bool(self._unsent)
        for target, part in zip(targets, data, strict=True):
            sent = None if behind or request.unsent else post(members[target], words, part, size)
            if sent is SENT:
                continue
            if request.unsent is None:
                request.unsent = collections.deque()
                self._unsent += 1
            request.unsent.append((members[target], words, part, size) if sent is None else sent)

    def _try(self, request: Request) -> bool:
        """Complete the first open call if all is there."""
        unsent = request.unsent
        if unsent is not None:
            if not self._all_left(unsent):
                return False
            request.unsent = None
            self._unsent -= 1
        came, awaits = self._came, request.form.awaits
        while request.left < len(awaits):
            queue = came[awaits[request.left]]
            if not queue:
                return False
            number, wanted, _ = queue[0]
            if number != request.number or wanted != request.wanted:
                raise self._mismatch(awaits[request.left])
            request.left += 1
        if request.receive is not None:
            self._finish(request)
        members, consumed = self._members, self._transport.consumed
        for source in awaits:
            consumed(members[source], came[source].popleft()[2])
        if any(came):
            for rank, queue in enumerate(came):
                if queue and queue[0][0] <= request.number:
                    raise self._mismatch(rank)
        request.done = True
        request.given = request.receive = None
        return True

    def _all_left(self, unsent: collections.deque[Any]) -> bool:
        """Go on with messages that were refused, or taken and not brought out of this process."""
        while unsent:
            sent = self._transport.post(*unsent[0]) if type(unsent[0]) is tuple else unsent[0]
            if sent is None:
                return False
            if not sent.done:
                unsent[0] = sent
                return False
            unsent.popleft()
        return True

    def _mismatch(self, rank: int) -> StepMismatchError:
        peer = self._members[rank]
        return StepMismatchError(
            f"worker {peer} is in another collective call than worker {self._members[self._rank]}",
            why="the fingerprints of their steps differ",
            remedy="make the same calls in the same order, with arrays of the same form, on all members",
            details={"peer": peer},
        )

    def _part(self, source: int, dtype: Any, count: int) -> Any:
        message = self._came[source][0][2]
        if len(message) - DATA != count * dtype.itemsize:
            raise self._mismatch(source)
        return np.frombuffer(message, dtype, count, DATA) if count else np.empty(0, dtype)

    def _finish(self, request: Request) -> None:
        """Put the result where it belongs."""
        form, given, receive = request.form, request.given, request.receive
        sources, rank, size = form.sources, self._rank, self._size
        if not sources:
            return
        operation = form.operation
        out = receive if receive.ndim == 1 else receive.reshape(-1)
        if form.ufunc is not None:
            mine = given if given.ndim == 1 else given.reshape(-1)
            if size == 2 and not form.parted and len(sources) == 2:
                theirs = self._part(1 - rank, out.dtype, out.size)
                form.ufunc(theirs if rank else mine, mine if rank else theirs, out=out)
                return
            if form.parted:
                mine = mine[rank * out.size : (rank + 1) * out.size]
            elif given is receive and rank > 1 and len(sources) > 2:
                mine = mine.copy()  # the result grows in its place
            parts = [mine if source == rank else self._part(source, out.dtype, out.size) for source in sources]
            self._fold(form.ufunc, parts, out)
            return
        if operation in ("broadcast", "scatter"):
            root = sources[0]
            if root != rank:
                out[:] = self._part(root, out.dtype, out.size)
            elif operation == "scatter":
                out[:] = given.reshape(-1)[rank * out.size : (rank + 1) * out.size]
            return
        n = out.size // size
        mine = given.reshape(-1)
        if operation == "alltoall":
            mine = mine[rank * n : (rank + 1) * n]
        for source in sources:
            out[source * n : (source + 1) * n] = mine if source == rank else self._part(source, out.dtype, n)

    @staticmethod
    def _fold(ufunc: Any, parts: list[Any], out: Any) -> None:
        """``parts[0] op parts[1] op ...`` in this order, so that all members get the same bits."""
        if len(parts) == 1:
            if parts[0] is not out:
                out[:] = parts[0]
            return
        ufunc(parts[0], parts[1], out=out)
        for part in parts[2:]:
            ufunc(out, part, out=out)
