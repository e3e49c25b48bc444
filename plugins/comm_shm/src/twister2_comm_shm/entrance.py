"""The entrance of a worker: its socket, who came to it, and who is known not to come."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Final

from twister2.spec.transports import same_user, socket_path

from . import meeting

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from twister2.spec.comm import TransportContext

    from .peer import Peer

SETTLE_S: Final = 4.5


class Entrance:
    """Peers come here with their memory, and this worker goes to them with its own.

    Closes when all peers are settled: nothing is left to find then, and nothing to leak. Read :attr:`refused` for the
    number of strangers that were turned away.
    """

    def __init__(self, context: TransportContext, sender: meeting.Sender, epoll: select.epoll) -> None:
        self._context, self._sender, self._epoll = context, sender, epoll
        self._session = meeting.session_of(context)
        self._listener: socket.socket | None = None
        self._strangers: dict[int, socket.socket] = {}
        self._peers: dict[int, Peer] = {}
        self._deadline = 0.0
        self._gift: tuple[int, int] = (-1, -1)
        self._size = 0
        self.unsettled: set[int] = set()
        self.path = ""
        self.refused = 0

    def open(self) -> str:
        """Listen; the path to publish, empty when it would be too long for a socket.

        :raises NetworkError: the folder is open to others, or nothing can be made there.
        """
        path = socket_path(self._context, "s")
        if path:
            self._listener = meeting.listen(path, self._context.size)
            self.path = path
            self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        return path

    def greet(self, peers: dict[int, Peer], home: int, bell: int, size: int) -> None:
        """Go to all peers, with the descriptors of the home segment (of ``size`` bytes) and of the bell."""
        self._peers, self._gift, self._size = peers, (home, bell), size
        self.unsettled = set(peers)
        self._deadline = time.monotonic() + SETTLE_S
        self.settle()

    def settle(self) -> bool:
        """See who can be reached by now; whether anything has changed."""
        late, before = time.monotonic() > self._deadline, len(self.unsettled)
        for rank in list(self.unsettled):
            peer = self._peers[rank]
            if peer.link is None and not peer.unreachable:
                self._push(peer)
            if late and not peer.settled:
                peer.unreachable = f"it has not shared its memory within {SETTLE_S} s"
            if peer.settled:
                self.unsettled.discard(rank)
        if not self.unsettled and self._listener is not None:
            self._epoll.unregister(self._listener.fileno())
            self._shut()
        return len(self.unsettled) != before

    def heard(self, fd: int, met: Callable[[int, Peer], None]) -> bool:
        """Somebody is at the socket or at a connection made there; False when the descriptor is not of here.

        :param met: called with the connection of a peer that has come.
        """
        if self._listener is not None and fd == self._listener.fileno():
            self._accept(met)
            return True
        if fd in self._strangers:
            self._hear(fd, met)
            return True
        return False

    def close(self) -> None:
        """Let nobody in any more. Idempotent."""
        self._shut()
        for stranger in self._strangers.values():
            stranger.close()
        self._strangers = {}

    def _shut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        path, self.path = self.path, ""
        meeting.remove(path)

    def _push(self, peer: Peer) -> None:
        try:
            link = meeting.dial(peer.path)
        except BlockingIOError:
            return
        if link is None:
            peer.unreachable = "nobody listens at the socket it has published"
        elif self._sender.send(link, meeting.HELLO, self._gift, 0, self._size):
            peer.link = link
        else:
            link.close()

    def _accept(self, met: Callable[[int, Peer], None]) -> None:
        assert self._listener is not None
        for _ in range(self._context.size + 8):
            made = meeting.accept(self._listener)
            if made is None:
                return
            if not same_user(made):
                self.refused += 1
                made.close()
                continue
            self._strangers[made.fileno()] = made
            self._epoll.register(made.fileno(), select.EPOLLIN)
            self._hear(made.fileno(), met)

    def _hear(self, fd: int, met: Callable[[int, Peer], None]) -> None:
        """The first note of a connection: who it is.

        :raises NetworkError: no descriptors are left for what it brings.
        """
        made = self._strangers[fd]
        stays = False
        try:
            note = meeting.read(made)
            stays = note is None
            if not isinstance(note, meeting.Note):
                return
            peer = self._peers.get(note.rank)
            ours = note.attempt == self._context.attempt and note.session == self._session
            if not ours or peer is None or note.kind != meeting.HELLO:
                note.drop()
            elif peer.meets(made, note, self._context.attempt):
                del self._strangers[fd]
                stays = True
                met(fd, peer)
        finally:
            if not stays:
                del self._strangers[fd]
                self.refused += 1
                self._epoll.unregister(fd)
                made.close()
