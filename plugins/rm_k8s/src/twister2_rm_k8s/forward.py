"""A port of a pod on this host, through the API server: one WebSocket for each connection.

Protocol ``v4.channel.k8s.io``: the first byte of a message is the channel, 0 for data and 1 for errors; the first
message of each says the port.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twister2.spec.errors import ResourceError, Twister2Error
from twister2_rm_k8s.api import RefusedError
from twister2_rm_k8s.websocket import BINARY, CLOSE, PING, PONG, Frames, frame, handshake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2_rm_k8s.api import Api

PROTOCOL = "v4.channel.k8s.io"
PIECE = 1 << 15
TURN_S = 0.5
"""How often a connection looks whether it is to end."""


@contextlib.contextmanager
def forwarded(api: Api, pod_path: str, port: int) -> Iterator[str]:
    """``tcp://127.0.0.1:PORT`` of a port here that leads to the pod's.

    :raises RefusedError: the server does not let us. :raises ResourceError: it does not answer.
    """
    begun: tuple[socket.socket, Frames] | None = _open(api, pod_path, port)  # so that a refusal is seen here
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TURN_S)

        def serve() -> None:
            nonlocal begun
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    try:
                        near, _ = server.accept()
                    except OSError as error:
                        if isinstance(error, TimeoutError):
                            continue
                        return
                    first, begun = begun, None
                    threading.Thread(
                        target=_serve, args=(api, pod_path, port, near, first, ended), name="port-forward", daemon=True
                    ).start()

        thread = threading.Thread(target=serve, name="port-forward", daemon=True)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            if begun is not None:
                begun[0].close()
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # closing alone does not end the wait for a connection
            server.close()
            thread.join(2 * TURN_S)


def _open(api: Api, pod_path: str, port: int) -> tuple[socket.socket, Frames]:
    sock = api.socket()
    try:
        target = f"{api.access.path}{pod_path}/portforward?ports={port}"
        host = urlsplit(api.access.server).netloc
        return sock, Frames(handshake(sock, host, target, api.access.headers(), PROTOCOL))
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):  # the server asks the pod's node, which may be dead
            raise ResourceError(
                f"port {port} of a pod cannot be forwarded",
                why=f"the API server, or the node of the pod, does not answer: {error}",
                remedy="try again; see whether the node is there",
                where=f"{api.access.server}{pod_path}",
            ) from error
        raise


def _serve(
    api: Api,
    pod_path: str,
    port: int,
    near: socket.socket,
    begun: tuple[socket.socket, Frames] | None,
    ended: threading.Event,
) -> None:
    """Carry one connection to its end. What goes wrong ends it: whoever uses it dials again."""
    with near, contextlib.suppress(OSError, ValueError, RefusedError, Twister2Error):
        far, frames = begun or _open(api.another(), pod_path, port)
        with far:
            _carry(near, far, frames, ended)


def _carry(near: socket.socket, far: socket.socket, frames: Frames, ended: threading.Event) -> None:
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    skipped = set[int]()
    while not ended.is_set():
        while (message := frames.next()) is not None:
            opcode, payload = message
            if opcode == CLOSE:
                return
            if opcode == PING:
                far.sendall(frame(payload, PONG))
            elif opcode == BINARY and payload:
                channel, data = payload[0], payload[1:]
                if channel not in skipped:  # the port, twice two bytes of which nobody has a use
                    skipped.add(channel)
                    data = data[2:]
                if channel == 1 and data:
                    return
                near.sendall(data)
        pending = isinstance(far, ssl.SSLSocket) and far.pending() > 0
        ready = [far] if pending else select.select([near, far], [], [], TURN_S)[0]
        if far in ready:
            data = far.recv(PIECE)
            if not data:
                return
            frames.feed(data)
        if near in ready:
            data = near.recv(PIECE)
            if not data:
                return
            far.sendall(frame(b"\0" + data))
