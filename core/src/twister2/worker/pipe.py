"""Frames between a supervisor, its fork server and its user process: a stream socket, a JSON head, an optional body.

Both ends are of one machine and one job, so this is the simplest thing that works without a library in the user
process.
"""

from __future__ import annotations

import array
import json
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEAD = struct.Struct("!IQ")


class Pipe:
    """One end of a stream socket. ``send`` may block, ``post`` and ``receive`` never do.

    An end uses either ``send`` or ``post``: for who can wait until the other end reads, or for who must not.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._outbox = bytearray()
        self.closed = False

    @classmethod
    def pair(cls) -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(
        self, kind: str, body: Mapping[str, Any], blob: bytes | memoryview = b"", descriptors: Sequence[int] = ()
    ) -> None:
        """Send one frame; raises OSError when the other end is gone."""
        data = _frame(kind, body, len(blob))
        if descriptors:
            self._sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
        else:
            self._sock.sendall(data)
        if len(blob):
            self._sock.sendall(blob)

    def post(self, kind: str, body: Mapping[str, Any], blob: bytes | memoryview = b"") -> None:
        """Queue one frame, and send what the socket takes now; :meth:`flush` sends the rest when it takes more.

        What cannot reach the other end, which has gone, is dropped.
        """
        if not self.closed:
            self._outbox += _frame(kind, body, len(blob))
            self._outbox += blob
            self.flush()

    @property
    def wants_write(self) -> bool:
        """Whether frames wait until the socket takes more."""
        return bool(self._outbox)

    def flush(self) -> None:
        """Send what was posted, as far as the socket takes it."""
        sent = 0
        try:
            with memoryview(self._outbox) as view:
                while sent < len(view):
                    sent += self._sock.send(view[sent : sent + (1 << 20)], socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            sent = len(self._outbox)
        del self._outbox[:sent]

    def receive(self) -> tuple[str, dict[str, Any], bytes] | None:
        """The next whole frame, or None. Sets :attr:`closed` once the other end is gone and everything was read."""
        while True:
            frame = self._take()
            if frame is not None:
                return frame
            try:
                data, ancillary, _, _ = self._sock.recvmsg(1 << 20, 256, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError:
                data, ancillary = b"", []
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors = array.array("i")
                    descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
                    self._descriptors.extend(descriptors)
            if not data:
                self.closed = True
                return None
            self._buffer += data

    def receive_within(self, timeout_s: float | None) -> tuple[str, dict[str, Any], bytes] | None:
        """As :meth:`receive`, but waits; None when nothing came in time or the other end is gone."""
        while True:
            frame = self.receive()
            if frame is not None or self.closed:
                return frame
            if not select.select([self._sock], [], [], timeout_s)[0]:
                return None

    def take_descriptors(self) -> list[int]:
        """File descriptors that came with the frames received so far."""
        taken, self._descriptors = self._descriptors, []
        return taken

    def _take(self) -> tuple[str, dict[str, Any], bytes] | None:
        buffer = self._buffer
        if len(buffer) < _HEAD.size:
            return None
        n_head, n_blob = _HEAD.unpack_from(buffer)
        end = _HEAD.size + n_head + n_blob
        if len(buffer) < end:
            return None
        kind, body = json.loads(buffer[_HEAD.size : _HEAD.size + n_head])
        blob = bytes(buffer[_HEAD.size + n_head : end])
        del buffer[:end]
        return kind, body, blob

    def close(self) -> None:
        self.closed = True
        self._outbox.clear()
        self._sock.close()


def _frame(kind: str, body: Mapping[str, Any], n_blob: int) -> bytes:
    """A frame up to its blob, which follows."""
    head = json.dumps([kind, body], separators=(",", ":")).encode()
    return _HEAD.pack(len(head), n_blob) + head


def drain(descriptor: int, limit: int = 1 << 16) -> bytes | None:
    """Read what a non-blocking descriptor has: bytes, ``b""`` for nothing now, None at its end."""
    try:
        return os.read(descriptor, limit) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None
