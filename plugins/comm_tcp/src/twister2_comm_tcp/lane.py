"""Messages between workers of one host: a Unix socket for each direction, without any thread.

The worker that sends writes to the socket itself, and the one that receives reads it straight into the memory that the
message stays in. A message is a prefix (mark, number of parts behind the first, length of the first), the lengths of
the others, and the parts. What the kernel's buffer does not take waits in the process until it does.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, TypeAlias

from twister2.spec.comm import Send
from twister2.spec.transports import same_user

from .limits import EXHAUSTED, exhausted
from .memory import Memory
from .ways import SENT, BrokenWayError
from .wire import LARGEST, MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.spec.batch import Buffer

First: TypeAlias = "bytes | memoryview"
"""The first part of a message."""
Message: TypeAlias = "tuple[First, list[memoryview]]"

_PREFIX: Final = struct.Struct("<4sIQ")
_MARK: Final = b"T2u1"
_MOST_PARTS: Final = 1 << 24
_BUFFER: Final = 1 << 20
"""What the kernel is asked to hold under way; it gives what its limits allow."""
_CHUNK: Final = 16 << 10
"""Read at once where messages are small."""
_LITTLE: Final = 512
"""Read at once after a large message: the beginning of the next one, of which the rest is read where it stays."""
_JOINED: Final = 4 << 10
"""Up to so many bytes, joining pieces costs less than handing over several."""
_PIECES: Final = 64
"""Handed over to the kernel at once."""
BACKLOG: Final = 4096
"""Who dials waits here until this worker looks; the kernel has a limit of its own."""


class _Written(Send):
    """A message of which the end has the place ``mark`` in all that a lane was given."""

    __slots__ = ("_lane", "_mark")

    def __init__(self, lane: Lane, mark: int) -> None:
        self._lane, self._mark = lane, mark

    @property
    def done(self) -> bool:
        return self._lane.written >= self._mark


class Lane:
    """The sender's end: a :class:`~.ways.Way`.

    :ivar written: bytes that the kernel has taken, in all.
    """

    keeps = True

    def __init__(self, connection: socket.socket, watch: Callable[[int, bool], None]) -> None:
        """:param watch: told, with the descriptor, whether the lane waits for the socket to take more."""
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._socket, self._watch = connection, watch
        self._fd = connection.fileno()
        self._waiting: collections.deque[Buffer] = collections.deque()
        self._given = self.written = 0
        self._watched = False

    @property
    def idle(self) -> bool:
        """See :attr:`.ways.Way.idle`."""
        return not self._waiting

    def send(self, parts: Sequence[bytes | memoryview]) -> Send:
        """See :meth:`.ways.Way.send`."""
        first = parts[0]
        if len(parts) == 1:
            return self.post(bytes(first), b"")
        sizes = [len(part) for part in parts[1:]]
        prefix = b"".join((_PREFIX.pack(_MARK, len(sizes), len(first)), struct.pack(f"<{len(sizes)}Q", *sizes), first))
        return self._give([prefix, *parts[1:]], len(prefix) + sum(sizes))

    def post(self, head: bytes, data: Buffer) -> Send:
        """See :meth:`.ways.Way.post`."""
        more = len(data)
        prefix = _PREFIX.pack(_MARK, 0, len(head) + more)
        if more <= _JOINED:
            whole: Buffer = b"".join((prefix, head, data))
            if not self._waiting:
                try:
                    taken = self._socket.send(whole)
                except BlockingIOError:
                    taken = 0
                except OSError as error:
                    raise self._broken(error) from error
                if taken == len(whole):
                    return SENT
                whole = memoryview(whole)[taken:]
            return self._give([whole], len(whole))
        if self._waiting:
            data = bytes(data)  # who gave them may change them
        alone = not self._waiting
        sent = self._give([prefix + head, data], len(prefix) + len(head) + more)
        if alone and self._waiting:
            self._waiting = collections.deque(map(bytes, self._waiting))
        return sent

    def farewell(self, part: bytes) -> Send:
        """See :meth:`.ways.Way.farewell`."""
        return self.post(part, b"")

    def push(self) -> bool:
        """Write what the kernel takes now; whether it took something."""
        waiting, before = self._waiting, self.written
        while waiting:
            try:
                taken = self._socket.sendmsg(list(itertools.islice(waiting, _PIECES)))
            except BlockingIOError:
                break
            except OSError as error:
                raise self._broken(error) from error
            self.written += taken
            while waiting and taken >= len(waiting[0]):
                taken -= len(waiting.popleft())
            if taken:
                waiting[0] = memoryview(waiting[0])[taken:]
        if self._watched != bool(waiting):
            self._watched = not self._watched
            self._watch(self._fd, self._watched)
        return self.written > before

    def close(self) -> None:
        """See :meth:`.ways.Way.close`."""
        self._waiting.clear()
        if self._watched:
            self._watched = False
            self._watch(self._fd, False)
        self._socket.close()

    def _give(self, pieces: Sequence[Buffer], size: int) -> Send:
        self._given += size
        idle = not self._waiting
        self._waiting.extend(piece for piece in pieces if len(piece))
        if idle:
            self.push()
        return _Written(self, self._given) if self._waiting else SENT

    def _broken(self, error: OSError) -> BrokenWayError:
        self._waiting.clear()
        self.written = self._given
        return BrokenWayError(f"its process has ended, or has closed its transport ({error.strerror})")


class Inlet:
    """The reader's end.

    :ivar peer: the worker that writes to it, -1 while that is not known. :ivar ended: nothing more can come.
    """

    def __init__(self, connection: socket.socket, memory: Memory | None = None) -> None:
        """:param memory: where large parts stay, shared with others; its own when there is none."""
        connection.setblocking(False)
        self._socket, self._memory = connection, memory or Memory()
        self.fd = connection.fileno()
        self.peer = -1
        self.ended = False
        self._data = b""
        self._at = 0
        """What was read, and up to where it was used."""
        self._chunk = _CHUNK
        self._parts: list[memoryview] = []
        self._filling = 0
        """Parts of a message that are complete; those behind are not."""
        self._filled = 0
        """Bytes of the next one that are."""

    def take(self) -> Message | None:
        """The next message that is complete.

        :raises MalformedError: this is not what a worker would write.
        """
        if self._parts:
            return self._fill()
        data, at = self._data, self._at
        if at == len(data):
            try:
                data = self._socket.recv(self._chunk)
            except BlockingIOError:
                return None
            except OSError:  # reset
                data = b""
            if not data:
                self.ended = True
                return None
            size = len(data)
            if size >= _PREFIX.size:
                mark, more, first = _PREFIX.unpack_from(data)
                if first + _PREFIX.size == size and not more and mark == _MARK:
                    self._chunk = _CHUNK
                    return data[_PREFIX.size :], []
            self._data, self._at = data, 0
        return self._begin()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _begin(self) -> Message | None:
        """Read the prefix and the lengths, make room for the parts, and fill it."""
        if not self._have(_PREFIX.size):
            return None
        mark, more, first = _PREFIX.unpack_from(self._data, self._at)
        if mark != _MARK or more > _MOST_PARTS or first > LARGEST:
            raise MalformedError("what was written to its Unix socket is no message of this transport")
        front = _PREFIX.size + 8 * more
        if not self._have(front):
            return None
        sizes = struct.unpack_from(f"<{more}Q", self._data, self._at + _PREFIX.size)
        if max(sizes, default=0) > LARGEST:
            raise MalformedError("a frame of an absurd length was announced on its Unix socket")
        self._at += front
        there = len(self._data) - self._at
        if not more and first <= there:
            self._at += first
            return self._data[self._at - first : self._at], []
        self._parts = list(map(self._memory.take, (first, *sizes)))
        self._chunk = _CHUNK if more == 0 and first <= _CHUNK else _LITTLE
        self._filling = self._filled = 0
        return self._fill()

    def _have(self, size: int) -> bool:
        """Whether so many unused bytes are there, or could be read."""
        while len(self._data) - self._at < size:
            try:
                data = self._socket.recv(max(self._chunk, size))
            except BlockingIOError:
                return False
            except OSError:
                data = b""
            if not data:
                self.ended = True
                return False
            self._data, self._at = self._data[self._at :] + data, 0
        return True

    def _fill(self) -> Message | None:
        parts = self._parts
        while self._filling < len(parts):
            part = parts[self._filling]
            size = len(part)
            if self._at < len(self._data) and self._filled < size:
                piece = self._data[self._at : self._at + size - self._filled]
                part[self._filled : self._filled + len(piece)] = piece
                self._at += len(piece)
                self._filled += len(piece)
            while self._filled < size:
                try:
                    came = self._socket.recv_into(part[self._filled :])
                except BlockingIOError:
                    return None
                except OSError:
                    came = 0
                if not came:
                    self.ended = True
                    return None
                self._filled += came
            self._filling += 1
            self._filled = 0
        self._parts = []
        return parts[0].toreadonly(), [part.toreadonly() for part in parts[1:]]


class Listener:
    """Where peers of this host dial in."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        try:
            self._socket.bind(path)
            self._socket.listen(BACKLOG)
        except OSError:
            self._socket.close()
            raise
        self.fd = self._socket.fileno()
        self._memory = Memory()

    def newcomers(self) -> list[Inlet]:
        """Who has dialled since, processes of this user only.

        :raises ResourceError: this process may open no more files. Who has dialled would wait for an answer for ever.
        """
        found: list[Inlet] = []
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:  # nobody more, or one that has gone already
                if error.errno in EXHAUSTED and not found:
                    raise exhausted(error, "let in a worker of this host that dials this one") from error
                return found
            if same_user(connection):
                found.append(Inlet(connection, self._memory))
            else:
                connection.close()

    def close(self) -> None:
        """Let nobody in any more."""
        self._socket.close()
