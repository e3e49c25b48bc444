"""A transport between threads of one process for tests, simple enough to be right by reading.

It copies every frame, refuses when a mailbox is full, and can be clogged on purpose.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from twister2.spec.comm import Address, Received, Send, Transport, TransportContext, TransportFacts
from twister2.spec.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.spec.batch import Buffer

_hub_lock = threading.Lock()
_hubs: dict[str, dict[int, LoopbackTransport]] = {}


class _Sent(Send):
    done = True


_SENT = _Sent()


class LoopbackTransport(Transport):
    """See :class:`twister2.spec.comm.Transport`.

    :param capacity: messages a mailbox takes from one peer before it refuses.
    """

    facts: ClassVar[TransportFacts] = TransportFacts(
        same_process=True, same_host=True, crosses_processes=False, copies_on_send=True
    )

    def __init__(self, context: TransportContext, capacity: int = 64) -> None:
        self._context = context
        self._capacity = capacity
        self._lock = threading.Lock()
        self._mail: deque[Received] = deque()
        self._from: dict[int, int] = {}
        self._peers: dict[int, LoopbackTransport] = {}
        self._reading, self._writing = -1, -1
        self._signalled = self._has_room = False
        """Whether the descriptor is readable, and whether a mailbox that had refused a message has been read."""
        self._refused: set[int] = set()
        """Who was refused here, and waits for room."""
        self._last = -1
        self._closed = False
        self.clogged = False
        """While True nothing is received."""

    def open(self) -> Address:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        with _hub_lock:
            _hubs.setdefault(self._context.session, {})[self._context.rank] = self
        return {"session": self._context.session}

    def connect(self, peers: Mapping[int, Address]) -> None:
        with _hub_lock:
            hub = _hubs.get(self._context.session, {})
            self._peers = {rank: hub[rank] for rank in peers if rank in hub}

    def reaches(self, peer: int) -> bool | None:
        return peer in self._peers

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        other = self._peers.get(peer)
        if other is None or other._closed or self._closed:
            raise NetworkError(
                f"worker {peer} cannot be reached", why="its mailbox is closed", remedy="see that worker's own error"
            )
        me = self._context.rank
        with other._lock:
            if other._from.get(me, 0) >= self._capacity:
                other._refused.add(me)
                return None
            other._from[me] = other._from.get(me, 0) + 1
            copies = tuple(memoryview(bytes(frame)) for frame in frames)
            other._mail.append(Received(me, copies))
            other._signal()
        return _SENT

    def receive(self) -> Received | None:
        if self.clogged or not self._mail:
            return None
        with self._lock:
            if not self._mail:
                return None
            # in turns: the oldest message of somebody else than last time
            turn = next((index for index, mail in enumerate(self._mail) if mail.peer != self._last), 0)
            received = self._mail[turn]
            del self._mail[turn]
            self._last = received.peer
            self._from[received.peer] -= 1
            self._drained()
            waits = received.peer in self._refused
            self._refused.discard(received.peer)
        if waits and received.peer in self._peers:
            self._peers[received.peer].tell_of_room()
        return received

    def progress(self) -> bool:
        if not self._has_room:
            return False
        with self._lock:
            self._has_room = False
            self._drained()
        return True

    def tell_of_room(self) -> None:
        """A mailbox that has refused a message of this one has been read."""
        with self._lock:
            self._has_room = True
            self._signal()

    def _signal(self) -> None:
        if not self._signalled and not self._closed:
            self._signalled = True
            os.write(self._writing, b"!")

    def _drained(self) -> None:
        if self._signalled and not self._mail and not self._has_room:
            os.read(self._reading, 16)
            self._signalled = False

    def wait_fd(self) -> int | None:
        return None if self.clogged else self._reading

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        with _hub_lock:
            hub = _hubs.get(self._context.session, {})
            hub.pop(self._context.rank, None)
            if not hub:
                _hubs.pop(self._context.session, None)
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._mail.clear()
            for descriptor in (self._reading, self._writing):
                if descriptor >= 0:
                    os.close(descriptor)
