"""How workers meet: each tells every peer, over a Unix socket in the job's private folder, of the memory it shares.

Nobody asks for anything: at ``connect`` a worker pushes the descriptors of its home segment and of its bell to all
peers, which take them whenever they come to it. The socket then carries descriptors of further segments, and its end
tells that the worker is gone. A socket's path exists only until all peers have come or are known not to.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

import attrs

from twister2.spec.errors import NetworkError
from twister2.spec.transports import same_user, session_id

from .limits import descriptors_for, exhausted, no_descriptors

if TYPE_CHECKING:
    from twister2.spec.comm import TransportContext

_NOTE: Final = struct.Struct("@8sIIII16sQQ")
_MAGIC: Final = b"T2meet1\0"
_MOST: Final = 4
"""Descriptors that come with a note."""
HELLO, RING, SEGMENT, GROUP = range(4)


@attrs.frozen
class Note:
    """What a worker says over its socket, with the descriptors that come with it.

    :ivar number: of a segment, or of a group. :ivar size: bytes of the segment.
    """

    kind: int
    rank: int
    attempt: int
    session: bytes
    number: int
    size: int
    descriptors: tuple[int, ...]

    def drop(self) -> None:
        """Close what came with it."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def session_of(context: TransportContext) -> bytes:
    """Sixteen bytes that are equal for the workers of one session of one job only."""
    return session_id(context.job_id, context.session, size=16)


def listen(path: str, size: int) -> socket.socket:
    """The socket at which peers come.

    :raises NetworkError: it cannot be made.
    """
    listener = _socket()
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(2 * size + 16)
    except OSError as error:
        listener.close()
        raise NetworkError(
            f"no socket can be made at {path}",
            why=str(error),
            remedy="see that the job's folder for sockets is writable and not full",
        ) from error
    return listener


def dial(path: str) -> socket.socket | None:
    """A connection to a peer's socket; None when nobody listens there, or it is another user's.

    :raises BlockingIOError: the peer's queue is full for the moment. :raises NetworkError: no descriptors are left.
    """
    made = _socket()
    try:
        made.connect(path)
        if same_user(made):
            return made
    except BlockingIOError:
        made.close()
        raise
    except ConnectionRefusedError:
        remove(path)  # who made it is dead: a path is published only once somebody listens there
    except OSError:
        pass
    made.close()
    return None


def accept(listener: socket.socket) -> socket.socket | None:
    """Who is at the socket; None when there is nobody.

    :raises NetworkError: no descriptors are left.
    """
    try:
        made, _ = listener.accept()
    except OSError as error:
        if exhausted(error):
            raise no_descriptors("a peer's connection", str(error)) from error
        return None
    made.setblocking(False)
    return made


def _socket() -> socket.socket:
    with descriptors_for("a socket"):
        return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


class Sender:
    """Writes notes into a connection."""

    def __init__(self, context: TransportContext) -> None:
        self._rank, self._attempt, self._session = context.rank, context.attempt, session_of(context)

    def send(
        self, connection: socket.socket, kind: int, descriptors: tuple[int, ...], number: int = 0, size: int = 0
    ) -> bool:
        """Say something; False when the peer has not read what was said before, or is gone."""
        note = _NOTE.pack(_MAGIC, kind, self._rank, self._attempt, len(descriptors), self._session, number, size)
        try:
            if descriptors:
                socket.send_fds(connection, [note], list(descriptors))
            else:
                connection.send(note)
        except OSError:
            return False
        return True


def read(connection: socket.socket) -> Note | bool | None:
    """The next note; None when there is none yet, False at the end or when something else came.

    :raises NetworkError: no descriptors are left for those that it came with.
    """
    descriptors: list[int] = []
    try:
        data, ancillary, flags, _ = connection.recvmsg(
            _NOTE.size, socket.CMSG_SPACE(_MOST * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
        )
    except BlockingIOError:
        return None
    except OSError:
        return False
    for level, kind, packed in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found = array.array("i")
            found.frombytes(packed[: len(packed) - len(packed) % found.itemsize])
            descriptors.extend(found)
    if len(data) == _NOTE.size:
        magic, sort, rank, attempt, count, session, number, size = _NOTE.unpack(data)
        if magic == _MAGIC and count == len(descriptors):
            return Note(sort, rank, attempt, session, number, size, tuple(descriptors))
    else:
        magic, count = b"", 0
    for descriptor in descriptors:
        os.close(descriptor)
    if flags & socket.MSG_CTRUNC and magic == _MAGIC and len(descriptors) < count <= _MOST:
        raise no_descriptors("the memory of a peer")
    return False


def remove(path: str) -> None:
    """Remove a socket's path, which may be gone already."""
    if path:
        with contextlib.suppress(OSError):
            os.unlink(path)
