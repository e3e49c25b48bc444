"""Kind ``comm``: a transport moves messages between the workers of one attempt.

It knows ranks and frames, nothing of tasks, channels or credits: the worker's network module multiplexes those over it.
Everything is non-blocking and called by one thread, the one that runs the step; a transport may own helper threads, but
must not call back. One transport object lives for one attempt.

Order of calls: ``open`` (make sockets, join the world; the address returned is published to all workers), ``connect``
(the addresses of peers), then ``isend`` / ``receive`` / ``progress`` in any order, ``close``. A job's transports are
tried in its order, on all workers alike: one that comes after others is opened only if some pair of workers is not
reached by those before it. Message order between two ranks
is kept; a message is delivered exactly once or :class:`~twister2.spec.errors.NetworkError` is raised for that peer.

Thought through against MPI (no dynamic peers, native collectives, the GIL held in init until the last rank arrives,
progress only inside calls, messages beyond 2 GiB) and TCP (connections that break and come back, back-pressure by
refusal: a slow reader stops its own writers only).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from twister2.spec.plugin import PluginSpec, Probe, hookspec
from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.spec.batch import Buffer
    from twister2.spec.collectives import NativeCollectives
    from twister2.spec.environment import NodeFacts

Address = Mapping[str, Any]
"""How a rank can be reached by this transport: JSON types, made by ``open``, read by ``connect``."""


@attrs.frozen(eq=False, repr=False)
class TransportContext(Value):
    """What a transport is made for.

    :ivar rank: worker id; :ivar size: number of workers; :ivar attempt: messages of other attempts must be refused.
    :ivar node: facts of this node, for choosing addresses. :ivar runtime_dir: a private folder (0700, short path) on
        this host, the same for all workers of the job on this host, removed with the job.
    :ivar curve_public, curve_secret: this worker's own CURVE pair (Z85 text), made for the attempt.
    :ivar peer_keys: public key of each rank: the only ones a data socket may accept. Filled before ``connect``.
    :ivar aborted: cheap flag to poll inside loops that take longer than 10 ms.
    :ivar session: random text, equal on all workers of the attempt, for names of segments, queues, in-process
        endpoints.
    """

    job_id: str
    attempt: int
    rank: int
    size: int
    node: NodeFacts
    runtime_dir: str
    session: str
    curve_public: str
    curve_secret: str = attrs.field(repr=False)
    peer_keys: Mapping[int, str]
    aborted: Callable[[], bool]


@attrs.frozen(eq=False, repr=False)
class TransportFacts(Value):
    """What a transport declares. ``worlds``, ``same_process``, ``same_host`` and ``crosses_processes`` are matched with
    the resource manager's offers at submit; ``reconnects``, ``encrypts`` and ``max_message`` are for readers: nothing
    is decided by them yet.

    :ivar worlds: process worlds it can live in (any one of them), empty when it needs none. ``"pmi1"`` is served by the
        supervisors themselves where the manager does not.
    :ivar same_process: reaches threads of the same process only; :ivar same_host: reaches processes of one host only.
    :ivar crosses_processes: reaches other processes at all.
    :ivar reconnects: survives a broken connection. :ivar encrypts: data is encrypted between hosts.
    :ivar native: operations of :data:`twister2.spec.collectives.OPERATIONS` that :meth:`Transport.native` offers.
    :ivar copies_on_send: frames may be changed by the caller as soon as ``isend`` returns.
    :ivar max_message: largest message in bytes, 0 for unlimited.
    :ivar segments: patterns (as of :mod:`fnmatch`) of the names in ``/dev/shm`` that a killed process may leave behind;
        what no process uses any more is removed by the supervisors.
    """

    worlds: tuple[str, ...] = ()
    same_process: bool = False
    same_host: bool = False
    crosses_processes: bool = True
    reconnects: bool = False
    encrypts: bool = False
    native: frozenset[str] = frozenset()
    copies_on_send: bool = False
    max_message: int = 0
    segments: tuple[str, ...] = ()


class Send(ABC):
    """A message on its way out. It may be dropped at any time; the message is sent all the same, as long as the
    transport makes progress: what is collected with others leaves only then.
    """

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the transport no longer needs the frames. Says nothing about arrival."""


@attrs.frozen(eq=False, repr=False)
class Received(Value):
    """A message that came in.

    :ivar peer: rank of the sender. :ivar frames: the frames as sent, read-only. Each is a *lease*: the transport may
        reuse the memory once its last view has died; a consumer that keeps data for long copies it.
    """

    peer: int
    frames: tuple[memoryview, ...]


class Transport(ABC):
    """The backend."""

    facts: ClassVar[TransportFacts]

    def limit_memory(self, n_bytes: int) -> int:
        """Learn the memory limit of this worker before :meth:`open`: buffers are to be small against it.

        :returns: the most bytes of buffers that this worker will have resident; they are taken off its memory budget. 0
            (the default): few enough not to be counted.
        """
        return 0

    @abstractmethod
    def open(self) -> Address:
        """Get ready to be reached; bind first, then give the address. May block until all ranks of a world arrive (the
        supervisor beats meanwhile).

        :raises NetworkError: cannot bind; the world has another size than the job (names the option to mend it).
        """

    @abstractmethod
    def connect(self, peers: Mapping[int, Address]) -> None:
        """Learn the addresses of this rank and of those it may reach by this transport; who is reached by one before
        it in the job's order is left out, on both sides, and is never asked for or sent to. Called once. Returns at
        once; connections are made meanwhile, and what fails then is for :meth:`reaches` to say.
        """

    @abstractmethod
    def reaches(self, peer: int) -> bool | None:
        """Whether a peer can be reached: a *probe* (for shared memory: a nonce read from it), not a guess. None: not
        known yet, call :meth:`progress` and ask again. Always settles: within 5 s where nothing answers, else 10 s.

        The answer must not need the peer's :meth:`progress`: a worker that has all its answers waits for the others
        without calling its transport.
        """

    @abstractmethod
    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Hand over a message of one or more frames (each 0 bytes or more) for ``peer`` (not this rank).

        :returns: None when it was refused because too much is under way to that peer: nothing was taken; progress and
            try again. The frames must stay unchanged until the result is ``done``.
        :raises NetworkError: the peer cannot be reached any more (also when it was a message before this one that could
            not be delivered), or the transport is closed; names the worker. With ``details["left"]``, its id, when it
            is known to have left: the job master is then asked why before the error is raised.
        """

    @abstractmethod
    def receive(self) -> Received | None:
        """The next message that is complete, from any peer; fair between peers. None when there is none.

        :raises NetworkError: the transport itself cannot go on, which ends the attempt. What strangers or broken peers
            send is dropped, and that a peer has closed is no error.
        """

    @abstractmethod
    def progress(self) -> bool:
        """Move what can be moved; returns whether anything did. At most 1 ms when idle. Called from ``open`` on.

        :raises NetworkError: as :meth:`receive`.
        """

    @abstractmethod
    def wait_fd(self) -> int | None:
        """A descriptor that polls readable when ``receive`` or ``progress`` may have something, and when there is room
        for a peer that was refused; or None: callers then spin with growing sleeps up to 1 ms. Level- or
        edge-triggered: callers always drain before they sleep.
        """

    @property
    def spins(self) -> bool:
        """Whether a worker that waits gains by calling :meth:`progress` in a loop for a while before it sleeps on
        :meth:`wait_fd`. Not where threads of the transport move the data: they need the processor that it would keep.
        """
        return True

    def state(self, peer: int) -> str:
        """What is under way to and from a peer, in a few words for people who look why a step does not go on: messages
        sent and read, when the peer was heard. Empty (the default) where nothing is known. Changes nothing.
        """
        return ""

    def native(self, members: Sequence[int]) -> NativeCollectives | None:
        """This transport's own collectives among these ranks (in this order), or None, on all of them alike.

        Collective: all members call it once per group, in the same order, and right after a barrier of theirs, so that
        it may wait for the others for a short time.
        """
        return None

    def allocate(self, nbytes: int) -> memoryview | None:
        """Writable memory that this transport sends from without a copy (shared or registered memory), or None.

        It is given back when its last view dies. What was sent from it must not be changed while a receiver holds a
        lease on it, which the caller sees to.
        """
        return None

    def mpi_communicator(self) -> Any:
        """The ``mpi4py`` communicator with rank = worker id; only a transport on MPI has one (None elsewhere)."""
        return None

    @abstractmethod
    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        """Flush what was sent (unless ``aborted``), within the deadline, then release everything: sockets, files,
        segments, threads. Idempotent, also before ``open``; releases even when it raises. Never waits for a dead
        peer.
        """


class CommSpec(PluginSpec):
    """Base of every ``twister2.comm`` plugin."""

    kind: ClassVar[str] = "comm"
    facts: ClassVar[TransportFacts]
    """Declared on the plugin class too, so that needs can be matched without importing the backend."""

    @hookspec(firstresult=True)
    def comm_create(self, config: Any, context: TransportContext) -> Transport | None:
        """Build the transport. Called in the user process's main thread, after the worker id is known."""

    @hookspec(firstresult=True)
    def comm_probe(self, config: Any) -> Probe | None:
        """Whether the libraries it needs are there; must not initialise them (no ``MPI_Init``). Optional; ``twister2
        plugins show`` asks.
        """


HeaderFormat = Literal["twister2-1"]
"""Version of the message header the network module puts in front of the frames."""
