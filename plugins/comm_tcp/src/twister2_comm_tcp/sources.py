"""Where messages come from: zmq's sockets for TCP, and the Unix sockets that peers of this host have dialled."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Final, Protocol

import zmq

from .lane import Inlet, Listener
from .wire import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lane import First, Message

    Socket = zmq.Socket[bytes]

_EVENTS, _RCVMORE = zmq.EVENTS, zmq.RCVMORE  # to pyzmq a plain number would have to be looked up
_NOBLOCK = int(zmq.NOBLOCK)  # arithmetic on zmq's flags is slow
_LOOK_AGAIN: Final = 16
"""Every so many rounds, the descriptors of all are asked, though some are known to have something."""
_EVENTS_AT_ONCE: Final = 64
_COUNTS_ONE: Final = 14
"""So many bytes of a message, as a power of two, count as another one: what is read soon is still in the cache."""
_ASK_S: Final = 0.25
"""How often zmq's sockets are asked whatever their descriptors say: a message was seen to lie there untold."""


class Source(Protocol):
    """Something with messages.

    :ivar peer: the worker whose they are, -1 where they may be anybody's. :ivar ended: no more will come.
    """

    peer: int
    ended: bool

    def take(self) -> Message | None:
        """The next message, if there is one.

        :raises MalformedError: what came is none.
        """
        ...

    def close(self) -> None:
        """Release the socket."""
        ...


class Pull:
    """A PULL socket."""

    peer = -1
    ended = False

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self.told = False
        """Whether it likely has messages (its descriptor has told, or a large one came): asking first is dear."""

    def take(self) -> Message | None:
        """See :meth:`Source.take`."""
        socket = self._socket
        if self.told:
            self.told = False
            try:
                first: bytes = socket.recv(_NOBLOCK)
            except zmq.Again:
                return None
        elif socket.get(_EVENTS):  # of a PULL socket: POLLIN or nothing
            first = socket.recv(_NOBLOCK)
        else:
            return None
        parts: list[memoryview] = []
        more = socket.get(_RCVMORE)
        self.told = bool(more)  # after a large message another one is likely
        while more:
            frame = socket.recv(_NOBLOCK, copy=False)
            parts.append(frame.buffer.toreadonly())
            more = frame.more
        return first, parts

    @property
    def has_some(self) -> bool:
        """Whether messages are there, whatever its descriptor says."""
        return bool(self._socket.get(_EVENTS))

    def close(self) -> None:
        """See :meth:`Source.close`."""
        self._socket.close(linger=0)


class Sources:
    """All of them."""

    def __init__(
        self,
        handle: Callable[[First, list[memoryview]], int],
        ended: Callable[[int], None],
        strange: Callable[[], None],
    ) -> None:
        """:param handle: is given each message, and says whose it is (-1: nobody's).
        :param ended: is given the worker from which nothing more can come. :param strange: a connection was ended that
            has brought what no worker would send.
        """
        self._handle, self._ended, self._strange = handle, ended, strange
        self._epoll = select.epoll()
        self._pulls: dict[int, Pull] = {}
        self._inlets: dict[int, Inlet] = {}
        self._listener: Listener | None = None
        self._busy: list[Source] = []
        """Those that may have something. The others have been asked, and their descriptors will tell."""
        self._rounds = 0
        self._asked = 0.0
        self.untold = 0
        """How often a socket had something, and its descriptor had not told."""

    def add(self, socket: Socket) -> None:
        """Take messages from a PULL socket too."""
        fd = int(socket.get(zmq.FD))
        self._pulls[fd] = pull = Pull(socket)
        self._busy.append(pull)
        self._epoll.register(fd, select.EPOLLIN)

    def listen(self, path: str) -> None:
        """Let peers of this host dial in.

        :raises OSError: that is not possible at this path.
        """
        self._listener = Listener(path)
        self._epoll.register(self._listener.fd, select.EPOLLIN)

    def watch(self, fd: int, wanted: bool) -> None:
        """Whether :attr:`fd` tells when a socket takes more."""
        if wanted:
            self._epoll.register(fd, select.EPOLLOUT)
        else:
            self._epoll.unregister(fd)

    @property
    def fd(self) -> int:
        """Polls readable when there may be something."""
        if len(self._pulls) == 1 and self._listener is None:
            return next(iter(self._pulls))
        return self._epoll.fileno()

    @property
    def threaded(self) -> bool:
        """Whether threads of zmq's bring messages."""
        return bool(self._pulls)

    def take_one(self) -> bool:
        """Handle one message; whether there was any. After False, :attr:`fd` polls readable when there is one."""
        busy = self._busy
        if not busy:
            self._look()
        for source in tuple(busy):
            if self._take(source):
                return True
            busy.remove(source)  # its descriptor tells from now on
        return False

    def take_in(self, limit: int, look: bool = False) -> bool:
        """Handle up to so many messages from each, large ones count more; whether there were any.

        :param look: ask the descriptors of all.
        """
        busy = self._busy
        self._rounds += 1
        if look or not busy or not self._rounds % _LOOK_AGAIN:
            self._look()
        moved = False
        for source in tuple(busy):
            left = limit
            while left > 0:
                counts = self._take(source)
                if not counts:
                    busy.remove(source)
                    break
                left -= counts
                moved = True
        return moved

    def close(self) -> None:
        """Release everything."""
        for pull in self._pulls.values():
            pull.close()
        for inlet in self._inlets.values():
            inlet.close()
        if self._listener is not None:
            self._listener.close()
        self._epoll.close()
        self._pulls, self._inlets, self._busy = {}, {}, []

    def _take(self, source: Source) -> int:
        """Handle one message; how many it counts as, 0 when there was none."""
        try:
            message = source.take()
        except MalformedError:
            self._strange()
            source.ended = True
            message = None
        if message is not None:
            first, parts = message
            peer = self._handle(first, parts)
            if source.peer < 0 <= peer and type(source) is Inlet:
                source.peer = peer
            return 1 + (sum(map(len, parts)) >> _COUNTS_ONE) if parts else 1
        if source.ended and type(source) is Inlet:
            self._epoll.unregister(source.fd)
            del self._inlets[source.fd]
            source.close()
            if source.peer >= 0:
                self._ended(source.peer)
        return 0

    def _look(self) -> None:
        """Ask the descriptors."""
        found = self._epoll.poll(0, _EVENTS_AT_ONCE)
        now = time.monotonic()
        if now - self._asked > _ASK_S:
            self._asked = now
            self._ask({fd for fd, _ in found})
        for fd, _ in found:
            source: Source | None = self._inlets.get(fd)
            if source is None:
                pull = self._pulls.get(fd)
                if pull is not None:
                    pull.told = True
                    source = pull
            if source is not None:
                if source not in self._busy:
                    self._busy.append(source)
            elif self._listener is not None and fd == self._listener.fd:
                for newcomer in self._listener.newcomers():
                    self._inlets[newcomer.fd] = newcomer
                    self._busy.append(newcomer)
                    self._epoll.register(newcomer.fd, select.EPOLLIN)

    def _ask(self, told: set[int]) -> None:
        """Ask zmq's sockets whose descriptors have told nothing."""
        for fd, pull in self._pulls.items():
            if fd not in told and pull not in self._busy and pull.has_some:
                self.untold += 1
                self._busy.append(pull)
