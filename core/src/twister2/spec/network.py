"""What operators see of the network: steps of a group, and ports that carry the channels of one edge.

The network module of a worker multiplexes all channels of all steps over the transports, keeps credits per channel,
encodes batches to frames, checks attempt, step and fingerprint of every message, and turns an abort into an exception
on every rank. It creates no threads: :meth:`Network.progress` and :meth:`Network.wait` are called by whoever waits, in
the thread that runs the step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from twister2.spec.channel import HeaderKind
    from twister2.spec.collectives import Collectives, Request


@attrs.frozen
class Group:
    """An ordered set of worker ids in an attempt. Rank in the group = index in ``members``.

    :ivar number: 0 is the group of all workers; sub-groups get numbers in the order of their creation, the same on
        every member.
    """

    number: int
    members: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.members)

    def rank_of(self, worker_id: int) -> int:
        """Rank of a worker in this group, or -1 when it is not a member."""
        try:
            return self.members.index(worker_id)
        except ValueError:
            return -1


@attrs.frozen
class Fingerprint:
    """What a step is, so that two workers can see that they do not do the same thing.

    :ivar kind: ``"run"``, ``"barrier"``, ``"commit"``, ``"allreduce"``...
    :ivar shape: what must be equal on all members: operation, number of tasks, hash of the graph... (not sizes).
    :ivar line: ``file.py:123`` of the user's call; reported, not compared.
    """

    kind: str
    shape: str
    line: str

    def same_as(self, other: Fingerprint) -> bool:
        return (self.kind, self.shape) == (other.kind, other.shape)


@attrs.define
class EdgeCounters:
    """Counters of one worker's end of an edge; seconds are wall-clock seconds.

    ``blocked_s`` is the time a sender was refused for lack of credits.
    """

    records_sent: int = 0
    bytes_sent: int = 0
    records_received: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    blocked_s: float = 0.0


@attrs.frozen
class Delivery:
    """One message that has arrived at a port.

    :ivar source: index of the sending task.
    :ivar target: index of the receiving task.
    :ivar kind: DATA or a mark.
    :ivar value: the batch (for a local channel the very object that was sent, arrays read-only), or the mark's value.
    :ivar n_records: records in the batch, 0 for marks.
    """

    source: int
    target: int
    kind: HeaderKind
    value: Any
    n_records: int


class Port(ABC):
    """One worker's end of all channels of one edge, during one step.

    Sending to a task on the same worker costs no serialisation: the object is handed over (mutable buffers are frozen;
    comm_inproc's copy rule concerns other workers only). A port is made by :meth:`Network.open_port` inside a step.
    """

    sources: Sequence[int]
    """Worker id of each source task."""
    targets: Sequence[int]
    """Worker id of each target task."""
    counters: EdgeCounters

    @abstractmethod
    def send(self, source: int, target: int, kind: HeaderKind, value: Any = None, *, last: bool = False) -> bool:
        """Queue a batch or a mark on channel (source, target); ``source`` must be on this worker.

        Marks are never refused, so that ends and barriers always get through.

        :param last: the batch is the channel's last: END follows it, which the receiver gets as any other; both go in
            one message, or neither was taken.
        :returns: False when the channel has no credit: call :meth:`Network.progress` and try again later. Nothing was
            taken then.
        :raises SerializationError: the batch cannot be encoded; names the record.
        """

    @abstractmethod
    def can_send(self, source: int, target: int) -> bool:
        """Whether a batch would be accepted now."""

    @abstractmethod
    def receive(self, target: int | None = None, skip: Container[int] = ()) -> Delivery | None:
        """The next message for a local target (any local one when None), or None. Grants credit back to its sender.

        :param skip: source tasks whose messages stay where they are, without credit: their channel has brought a
            barrier and waits for the others.
        """

    @abstractmethod
    def close(self) -> None:
        """Forget the port. Messages of its channels that come later are dropped as stale. Idempotent."""


class Step(ABC):
    """One numbered collective action of a group. A context manager: leaving it normally ends the step.

    Leaving it by an exception tells the master, which aborts the step on all members.
    """

    group: Group
    number: int
    fingerprint: Fingerprint

    @abstractmethod
    def __enter__(self) -> Step: ...

    @abstractmethod
    def __exit__(self, *exc: object) -> None: ...


class Network(ABC):
    """The network of one worker in one attempt."""

    worker_id: int
    attempt: int
    world: Group
    """The group of all workers, number 0."""

    @abstractmethod
    def step(self, kind: str, shape: str = "", *, group: Group | None = None, line: str | None = None) -> Step:
        """Begin the group's next step.

        :param line: ``file:line`` of the user's call; found on the stack when None (the first frame outside this
            system's packages).
        :raises StepAbortedError: the attempt was aborted earlier.
        """

    @abstractmethod
    def open_port(self, step: Step, edge: int, sources: Sequence[int], targets: Sequence[int]) -> Port:
        """Open the channels of one edge. ``edge`` is any number unique in the step, equal on all members.

        :param sources: worker id per source task; ``targets`` likewise. The same on all members.
        """

    @abstractmethod
    def keep_open(
        self, step: Step, advance: Callable[[], bool], what: str, *, polled: bool = False, lasting: bool = True
    ) -> Request:
        """Leave a step open while the program goes on to others: ``advance`` is called whenever the network
        progresses, until it returns True, which ends the step. What it raises, the call that progressed raises.

        :param what: as in :meth:`wait_until`. :param polled: it may go on without a message: who waits looks often.
        :param lasting: it may be open when the program returns; else that is an error.
        """

    @abstractmethod
    def progress(self) -> bool:
        """Move what can be moved without waiting; returns whether anything moved.

        :raises StepAbortedError: another worker failed, or the master ended the attempt.
        :raises StepMismatchError: a member of the group is in another step.
        :raises NetworkError: a transport failed.
        """

    @abstractmethod
    def wait(self, timeout_s: float) -> None:
        """Sleep until something may have arrived, an abort comes, or the time is over. Raises as :meth:`progress`."""

    def idle(self, timeout_s: float) -> None:
        """Progress until something has moved: for a bounded time first (option ``job.network.spin_us``), which costs
        less than to be woken, then once more after a :meth:`wait`. Raises as :meth:`progress`.
        """
        if not self.progress():
            self.wait(timeout_s)

    @abstractmethod
    def wait_until(
        self, ready: Callable[[], bool], what: str, deadline_s: float | None = None, *, step: Step | None = None
    ) -> None:
        """Progress and wait until ``ready()``; spins for a bounded time first (option ``job.network.spin_us``).

        :param what: what is waited for, shown by ``twister2 status`` and in errors.
        :param deadline_s: seconds; None waits as long as all members are alive (a slow member is not an error: death,
            return or another step of a member ends the wait by an exception).
        :param step: what the wait is part of: the error for a deadline says who is late in it, and where they are.
        :raises DeadlineError: the deadline passed.
        """

    @abstractmethod
    def broadcast_object(self, value: Any, root: int = 0, *, group: Group | None = None, what: str = "") -> Any:
        """Send one picklable object from worker id ``root`` to all members: for plan-time facts such as file lists.

        A step of its own. Bulk data goes through operators.
        """

    @abstractmethod
    def exchange_objects(self, value: Any, *, group: Group | None = None, what: str = "") -> list[Any]:
        """Give one small picklable object, get everybody's, by rank in the group. A step of its own."""

    @abstractmethod
    def split(self, color: int | str | None, *, group: Group | None = None) -> Group | None:
        """Make sub-groups of members that give the same ``color`` (None: in no sub-group); order by worker id.
        Collective.
        """

    @abstractmethod
    def group(self, members: Sequence[int]) -> Group:
        """The sub-group of these worker ids in this order, made without communication by its members.

        :raises NetworkError: ids that do not exist or come twice, or this worker is not among them.
        """

    @abstractmethod
    def collectives(self, group: Group | None = None) -> Collectives:
        """The group's collective operations on arrays. Collective at the first use of a group; kept for the attempt."""

    @abstractmethod
    def split_by_host(self, *, group: Group | None = None) -> Group:
        """The sub-group of the members that run on this worker's host. Collective."""

    def transport_name(self, peer: int) -> str:
        """Name of the transport plugin that leads to another worker, for people; empty when none does.

        :raises NetworkError: there is no worker of that id.
        """
        return ""

    @abstractmethod
    def empty_shared(self, shape: int | Sequence[int], dtype: Any = "float64") -> Any:
        """An uninitialised numpy array in memory that the transports send from without copying, where they have such
        memory; else an ordinary one. Do not change what was sent while others may still read it.
        """


class Codec(ABC):
    """A user-registered serialiser of one type (``twister2.register_serializer``). Deriving from this class is not
    needed.
    """

    @abstractmethod
    def encode(self, value: Any) -> bytes | bytearray | memoryview | Sequence[bytes | bytearray | memoryview]:
        """The value as bytes, or as a list of buffers, which are sent without further copies."""

    @abstractmethod
    def decode(self, data: Any) -> Any:
        """The value again.

        :param data: ``bytes`` where ``encode`` gave one buffer; where it gave a list, a list of as many ``memoryview``,
            which are read-only leases.
        """


__all__ = [
    "Batch",
    "Codec",
    "Delivery",
    "EdgeCounters",
    "Fingerprint",
    "Group",
    "Network",
    "Port",
    "Step",
]
