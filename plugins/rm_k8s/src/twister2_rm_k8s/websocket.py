"""The client's side of a WebSocket (RFC 6455), as far as Kubernetes' port-forward needs it."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from typing import TYPE_CHECKING

from twister2_rm_k8s.api import RefusedError, refused

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
LARGEST = 1 << 24
HEAD_LIMIT = 1 << 16


def handshake(sock: socket.socket, host: str, target: str, headers: Mapping[str, str], protocol: str) -> bytes:
    """Upgrade a connection; returns what came after the server's answer already.

    :raises RefusedError: the server says no. :raises OSError: the connection ended.
    """
    key = base64.b64encode(os.urandom(16))
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key.decode()}",
        f"Sec-WebSocket-Protocol: {protocol}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(4096)
        if not piece or len(data) > HEAD_LIMIT:
            raise OSError("the API server ended the connection during the handshake")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *others = head.decode("latin-1").split("\r\n")
    status = int(first.split(" ", 2)[1])
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in others)}
    if status != 101:
        length = int(fields.get("content-length") or 0)
        while len(rest) < min(length, HEAD_LIMIT) and (piece := sock.recv(4096)):
            rest += piece
        raise refused(status, rest)
    expected = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest()).decode()
    if fields.get("sec-websocket-accept") != expected:
        raise RefusedError(status, "", "what answers there does not speak WebSocket")
    return rest


def frame(data: bytes, opcode: int = BINARY) -> bytes:
    """One message of a client, masked as it must be."""
    size = len(data)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    mask = os.urandom(4)
    repeated = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
    return head + mask + masked


class Frames:
    """Cuts what comes from a server into messages."""

    def __init__(self, begun: bytes = b"") -> None:
        self._data = bytearray(begun)
        self._parts = b""

    def feed(self, data: bytes) -> None:
        self._data += data

    def next(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next whole message, None when more must come.

        :raises ValueError: what comes is no message of a server.
        """
        while True:
            if len(self._data) < 2:
                return None
            final, opcode = self._data[0] & 0x80, self._data[0] & 0x0F
            masked, size, at = self._data[1] & 0x80, self._data[1] & 0x7F, 2
            if size >= 126:
                wide = 2 if size == 126 else 8
                if len(self._data) < 2 + wide:
                    return None
                size, at = int.from_bytes(self._data[2 : 2 + wide], "big"), 2 + wide
            if masked or size > LARGEST or len(self._parts) > LARGEST:
                raise ValueError("no message of a WebSocket server")
            if len(self._data) < at + size:
                return None
            payload = bytes(self._data[at : at + size])
            del self._data[: at + size]
            if opcode >= CLOSE:
                return opcode, payload
            self._parts += payload
            if final:
                whole, self._parts = self._parts, b""
                return BINARY, whole
