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
    """One end of a stream socket. ``send`` may block (the other end always reads), ``receive`` never does."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._descriptors: list[int] = []
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
        head = json.dumps([kind, body], separators=(",", ":")).encode()
        data = _HEAD.pack(len(head), len(blob)) + head
        if descriptors:
            self._sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
        else:
            self._sock.sendall(data)
        if len(blob):
            self._sock.sendall(blob)

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
        self._sock.close()


def drain(descriptor: int, limit: int = 1 << 16) -> bytes | None:
    """Read what a non-blocking descriptor has: bytes, ``b""`` for nothing now, None at its end."""
    try:
        return os.read(descriptor, limit) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None
