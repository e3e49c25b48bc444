"""How messages leave: through a zmq socket, whose own thread moves the data, or over a Unix socket (``lane.py``)."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

import zmq

from twister2.spec.comm import Send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.batch import Buffer

    Socket = zmq.Socket[bytes]

_NOBLOCK, _SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)


class _Sent(Send):
    """A message whose frames were copied."""

    @property
    def done(self) -> bool:
        return True


SENT = _Sent()


class _Tracked(Send):
    """A message with frames that zmq sends from the caller's memory. Each is given to it as a view of its own, which
    lives until zmq needs it no more; zmq's own trackers say the same, and cost as much as all the rest of a send.
    """

    __slots__ = ("_views",)

    def __init__(self, views: list[weakref.ref[memoryview]]) -> None:
        self._views = views

    @property
    def done(self) -> bool:
        while self._views and self._views[-1]() is None:
            self._views.pop()
        return not self._views


def _lent(socket: Socket, part: bytes | memoryview, *, more: bool) -> weakref.ref[memoryview]:
    """Send a part from where it lies: what is dead once zmq needs it no more."""
    view = memoryview(part)
    socket.send(view, _NOBLOCK | _SNDMORE if more else _NOBLOCK, copy=False)
    return weakref.ref(view)


class BrokenWayError(Exception):
    """Nobody reads at the other end any more."""


class Way(Protocol):
    """Takes messages for one peer, each of one part or more, in their order."""

    keeps: bool
    """Nothing that it takes can be lost while the peer lives, and that the peer has gone shows by itself."""

    @property
    def idle(self) -> bool:
        """Whether nothing is known to wait here."""
        ...

    def send(self, parts: Sequence[bytes | memoryview]) -> Send:
        """Take a message. Parts behind the first are sent from where they lie; the first is bytes.

        :raises BrokenWayError: nobody reads any more.
        """
        ...

    def post(self, head: bytes, data: Buffer) -> Send:
        """Take a message of one part, in two pieces. The data may be changed as soon as this returns.

        :raises BrokenWayError: as :meth:`send`.
        """
        ...

    def farewell(self, part: bytes) -> Send:
        """Take the last message; done when it and everything before was taken over by who moves it.

        :raises BrokenWayError: as :meth:`send`.
        """
        ...

    def push(self) -> bool:
        """Go on with what was taken; whether something moved.

        :raises BrokenWayError: as :meth:`send`.
        """
        ...

    def close(self) -> None:
        """Release the socket; what has not left the process is dropped."""
        ...


class ZmqWay:
    """A PUSH socket."""

    keeps = False
    idle = True

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    def send(self, parts: Sequence[bytes | memoryview]) -> Send:
        """See :meth:`Way.send`."""
        socket = self._socket
        if len(parts) == 1:
            socket.send(parts[0], _NOBLOCK)
            return SENT
        socket.send(parts[0], _NOBLOCK | _SNDMORE)
        last = len(parts) - 1
        return _Tracked([_lent(socket, part, more=number < last) for number, part in enumerate(parts) if number])

    def post(self, head: bytes, data: Buffer) -> Send:
        """See :meth:`Way.post`."""
        self._socket.send(b"".join((head, data)), _NOBLOCK)
        return SENT

    def farewell(self, part: bytes) -> Send:
        """See :meth:`Way.farewell`."""
        return _Tracked([_lent(self._socket, part, more=False)])

    def push(self) -> bool:
        """Nothing to do: a thread of zmq's moves the data."""
        return False

    def close(self) -> None:
        """See :meth:`Way.close`."""
        self._socket.close(linger=0)
