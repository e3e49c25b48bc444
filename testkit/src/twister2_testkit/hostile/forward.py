"""A TCP forwarder, the way to a process that cannot be dialled directly."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_S = 5.0


@contextlib.contextmanager
def forwarded(host: str, port: int) -> Iterator[str]:
    """Listen on a loopback port and pass every connection on to ``host:port``; yields ``tcp://127.0.0.1:<port>``."""
    opened: list[socket.socket] = []
    lock = threading.Lock()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def keep(connection: socket.socket) -> socket.socket:
            with lock:
                opened.append(connection)
            return connection

        def accept() -> None:
            while True:
                try:
                    near = keep(server.accept()[0])
                except OSError:  # closed
                    return
                try:
                    far = keep(socket.create_connection((host, port), CONNECT_S))
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(source, target), daemon=True).start()

        thread = threading.Thread(target=accept, name="hostile-forward", daemon=True)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(CONNECT_S + 1)
            with lock:
                for connection in opened:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                    connection.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
