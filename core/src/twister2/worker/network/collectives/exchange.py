"""Raw messages among the members of one step: what the algorithms send and wait for.

A thin port: no credits, no codec. What may be under way is bounded by the algorithm within a step, and over steps by
:class:`Debts`: who has sent much to a member without having heard of it waits for its receipt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import NetworkError, StepMismatchError
from twister2.worker.network.wire import INLINE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2.spec.batch import Buffer
    from twister2.worker.network.network import WorkerNetwork
    from twister2.worker.network.steps import NumberedStep
    from twister2.worker.network.wire import Message

DATA: Final = int(HeaderKind.DATA)
RECEIPT: Final = int(HeaderKind.FLUSH)
EDGE: Final = 0
WINDOW: Final = 32 << 20
"""Bytes sent to a member, and not known to be received, above which a receipt is asked for."""
MANY: Final = 256
"""As many messages count as a full window."""
_COUNTED: Final = 4096
"""Messages of fewer bytes do not count as memory: they are gone in a moment."""


class Debts:
    """Bytes that a group's members were sent since they were heard of; kept over the steps of the group."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}


class Exchange:
    """The messages of one step at one member. ``rank`` and all other ranks are ranks in the group."""

    __slots__ = (
        "_came",
        "_debts",
        "_network",
        "_owed",
        "_receipts",
        "_sent",
        "_step",
        "inbox",
        "members",
        "rank",
        "size",
        "waits",
    )

    def __init__(self, network: WorkerNetwork, step: NumberedStep, rank: int, debts: Debts) -> None:
        self._network, self._step, self._debts = network, step, debts
        self.rank = rank
        self.members = step.group.members
        self.size = len(self.members)
        self.inbox: dict[int, list[memoryview]] = {}
        """By sending rank: what came and was not taken, in order."""
        self._came: dict[int, int] = {}
        self._sent: dict[int, int] = {}
        self._owed: set[int] = set()
        """Ranks that were asked for a receipt and have not given it."""
        self._receipts: dict[int, int] = {}
        """By sending rank: the number of its message that wants a receipt."""
        self.waits = -1
        """The rank whose message is waited for."""

    # -- what algorithms call --------------------------------------------------------------------------------------

    def send(self, rank: int, array: Any) -> None:
        """Send the bytes of a contiguous array, which must not change before the step ends or the receiver answers."""
        size: int = array.nbytes
        sequence = self._sent[rank] = self._sent.get(rank, 0) + 1
        debts = self._debts.bytes
        debt = debts[rank] = debts.get(rank, 0) + size + WINDOW // MANY
        asks = 0
        if debt >= WINDOW and rank not in self._owed:
            self._owed.add(rank)
            asks = 1
        # what goes into the first frame is copied anyway
        whole: Buffer = array.tobytes() if size <= INLINE else memoryview(array.view(np.uint8))
        buffers = [whole] if size else []
        self._network.post(
            self._step, self.members[rank], (DATA, EDGE, self.rank, rank, sequence, asks), (0, b"", buffers, size)
        )

    def receive(self, rank: int, nbytes: int) -> Iterator[None]:
        """Wait until a message from ``rank`` is there, then check its size; :meth:`take` gives it."""
        came = self.inbox.get(rank)
        if not came:
            self.waits = rank
            while not came:
                yield
                came = self.inbox.get(rank)
            self.waits = -1
        if came[0].nbytes != nbytes:
            raise self._wrong_size(rank, came[0].nbytes, nbytes)

    def take(self, rank: int, dtype: Any) -> Any:
        """The message that :meth:`receive` waited for, as a read-only array."""
        payload = self.inbox[rank].pop(0)
        size = payload.nbytes
        if size >= _COUNTED:
            self._network.hold(-size)
        if self._receipts:
            self._give_receipt(rank)
        return np.frombuffer(payload, dtype) if size else np.empty(0, dtype)

    def into(self, rank: int, array: Any) -> Iterator[None]:
        """Receive into a contiguous array."""
        yield from self.receive(rank, array.nbytes)
        if array.nbytes:
            array.view(np.uint8)[:] = self.take(rank, np.uint8)
        else:
            self.take(rank, np.uint8)

    @property
    def unsettled(self) -> bool:
        """Whether receipts are waited for."""
        return bool(self._owed)

    def settle(self) -> Iterator[None]:
        """Called when an algorithm is through: wait for the receipts of members that were sent too much."""
        for rank in list(self._owed):
            self.waits = rank
            while rank in self._owed:
                yield
        self.waits = -1

    # -- what the network calls ------------------------------------------------------------------------------------

    def accept(self, message: Message) -> None:
        """A message of this step came in."""
        rank = message.source
        if rank >= self.size or self.members[rank] != message.peer or message.target != self.rank:
            raise _foreign(message, "it does not lead from that worker to this one")
        self._debts.bytes.pop(rank, None)
        if message.kind == RECEIPT:
            self._owed.discard(rank)
            return
        sequence = self._came.get(rank, 0) + 1
        if message.sequence != sequence:
            raise _foreign(message, f"message {message.sequence} came where {sequence} was to come")
        self._came[rank] = sequence
        if message.size >= _COUNTED:
            self._network.hold(message.size)
        if message.n_records:
            self._receipts[rank] = sequence
        queue = self.inbox.get(rank)
        if queue is None:
            queue = self.inbox[rank] = []
        queue.append(message.buffers[0])

    def grant(self, message: Message) -> None:
        """Credits are for channels of operators."""
        raise _foreign(message, "a collective gives no credits")

    def close(self) -> None:
        """The step is over."""
        for queue in self.inbox.values():
            for payload in queue:
                if payload.nbytes >= _COUNTED:
                    self._network.hold(-payload.nbytes)
        self.inbox.clear()
        self._step.ports.pop(EDGE, None)
        self._step.closed_edges.add(EDGE)

    @property
    def is_through(self) -> bool:
        """A call's own: it is open until its step ends."""
        return False

    # -- inside ----------------------------------------------------------------------------------------------------

    def _give_receipt(self, rank: int) -> None:
        """Tell a member that asked for it that its message was taken."""
        due = self._receipts.get(rank)
        if due is not None and self._came[rank] - len(self.inbox[rank]) >= due:
            del self._receipts[rank]
            self._network.post(self._step, self.members[rank], (RECEIPT, EDGE, self.rank, rank, 0, 0), None)

    def _wrong_size(self, rank: int, came: int, wanted: int) -> StepMismatchError:
        mine = self._step.fingerprint
        peer = self.members[rank]
        return StepMismatchError(
            f"worker {peer} sent {came} bytes in {mine.kind}, where worker {self._network.worker_id} expected {wanted}",
            why=f"worker {self._network.worker_id} is in '{mine.kind} {mine.shape}' ({mine.line}); "
            f"the counts of the two do not fit together",
            remedy="let the counts of each member say what the others really send",
            where=mine.line,
            details={"peer": peer, "bytes": came, "expected": wanted},
        )


class Part:
    """Some members of an exchange, renumbered: for algorithms among the leaders of hosts."""

    __slots__ = ("_of", "_ranks", "rank", "size")

    def __init__(self, of: Exchange, ranks: Sequence[int]) -> None:
        self._of, self._ranks = of, ranks
        self.rank = ranks.index(of.rank)
        self.size = len(ranks)

    def send(self, rank: int, array: Any) -> None:
        self._of.send(self._ranks[rank], array)

    def receive(self, rank: int, nbytes: int) -> Iterator[None]:
        return self._of.receive(self._ranks[rank], nbytes)

    def take(self, rank: int, dtype: Any) -> Any:
        return self._of.take(self._ranks[rank], dtype)

    def into(self, rank: int, array: Any) -> Iterator[None]:
        return self._of.into(self._ranks[rank], array)


def _foreign(message: Message, why: str) -> NetworkError:
    return NetworkError(
        f"a message from worker {message.peer} does not belong where it came",
        why=f"{why} (step {message.step}, {message.source} -> {message.target})",
        remedy="this is a bug of the transport: report it, and try another transport",
        details={"peer": message.peer, "step": message.step},
    )
