"""The backend: messages between threads of one process, through mailboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from twister2.spec.comm import Received, Send, Transport, TransportFacts
from twister2.spec.errors import NetworkError

from .frames import take
from .mailbox import Mailbox, registry, session_of
from .plugin import FACTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.spec.batch import Buffer
    from twister2.spec.comm import Address, TransportContext

    from .config import InprocConfig


class _Done(Send):
    """A message whose frames were copied or cannot change."""

    @property
    def done(self) -> bool:
        return True


_DONE = _Done()


class InprocTransport(Transport):
    """One rank among threads. Its mailbox is written by other threads; all else belongs to the calling thread."""

    facts: ClassVar[TransportFacts] = FACTS

    def __init__(self, config: InprocConfig, context: TransportContext) -> None:
        self._config, self._context = config, context
        self._session = session_of(context)
        self._registry = registry()
        self._mailbox: Mailbox | None = None
        self._addresses: Mapping[int, Address] = {}
        self._peers: dict[int, Mailbox] = {}

    def open(self) -> Address:
        mailbox = Mailbox(self._config.queue_messages, self._config.queue_bytes)
        if not self._registry.add(self._session, self._context.rank, mailbox):
            mailbox.close()
            raise NetworkError(
                f"worker {self._context.rank} is open twice in this process",
                why=f"attempt {self._context.attempt} of job {self._context.job_id} has a mailbox for it already",
                remedy="close the first transport before opening another of the same attempt",
            )
        self._mailbox = mailbox
        return {"process": self._registry.token}

    def connect(self, peers: Mapping[int, Address]) -> None:
        self._addresses = dict(peers)

    def reaches(self, peer: int) -> bool | None:
        here = self._addresses.get(peer, {}).get("process") == self._registry.token
        return here and self._peer(peer) is not None

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        own = self._own()
        mailbox = self._peers.get(peer) or self._peer(peer)
        if mailbox is None or mailbox.closed:
            raise NetworkError(
                f"worker {peer} cannot be reached from worker {self._context.rank}",
                why="it has closed its mailbox, or it runs in another process",
                remedy="see why that worker ended; use comm.tcp between processes",
            )
        message = tuple(map(take, frames))
        size = sum(frame.nbytes for frame in message)
        return _DONE if mailbox.put(self._context.rank, message, size, own) else None

    def receive(self) -> Received | None:
        found = self._own().get()
        return None if found is None else Received(*found)

    def progress(self) -> bool:
        return self._own().take_room()

    def wait_fd(self) -> int | None:
        return self._own().fd

    def state(self, peer: int) -> str:
        theirs = self._peers.get(peer)
        if theirs is None:
            return "0 sent"
        if theirs.closed:
            return "it has closed its mailbox"
        waiting = f"{theirs.held(self._context.rank)} of this worker's messages wait in its mailbox"
        return waiting if self._mailbox is None else f"{waiting}, {self._mailbox.held(peer)} of its messages here"

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        # what was sent lies in the readers' mailboxes: there is nothing to flush
        mailbox, self._mailbox = self._mailbox, None
        self._peers.clear()
        if mailbox is not None:
            self._registry.remove(self._session, self._context.rank)
            mailbox.close()

    def _own(self) -> Mailbox:
        if self._mailbox is None:
            raise NetworkError(
                f"the transport of worker {self._context.rank} is closed",
                why="it was used before open or after close",
                remedy="open a transport for each attempt, and use it only until close",
            )
        return self._mailbox

    def _peer(self, peer: int) -> Mailbox | None:
        mailbox = self._registry.find(self._session, peer)
        if mailbox is not None:
            self._peers[peer] = mailbox
        return mailbox
