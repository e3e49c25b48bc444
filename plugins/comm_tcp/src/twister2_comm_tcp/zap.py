"""Who may connect: only the public keys of this attempt's workers (ZAP, ZeroMQ RFC 27)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import zmq
from zmq.utils import z85

if TYPE_CHECKING:
    from collections.abc import Iterable

ENDPOINT = "inproc://zeromq.zap.01"
WAIT_FOR_KEYS_S = 30.0


class KeyGuard:
    """Answers libzmq's question about each CURVE client. A thread, since handshakes must not wait for user code.

    It ends when the zmq context is terminated.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        # a shadow: who destroys the context closes the sockets of its own thread, and not this one
        apart: zmq.Context[zmq.Socket[bytes]] = zmq.Context.shadow(context)
        self._socket = apart.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(ENDPOINT)
        self._known = threading.Event()
        self._closed = False
        self._keys: frozenset[bytes] = frozenset()
        self._thread = threading.Thread(target=self._run, name="twister2-comm-keys", daemon=True)
        self._thread.start()

    def allow(self, keys: Iterable[str]) -> None:
        """Say which keys (Z85) may connect. Clients that came before wait for it."""
        self._keys = frozenset(z85.decode(key) for key in keys)
        self._known.set()

    def stop(self) -> None:
        """Let a waiting question go unanswered; to be called before the context is terminated."""
        self._closed = True
        self._known.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end, after the context was terminated."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while True:
                _, request, _, _, _, mechanism, *credentials = self._socket.recv_multipart()
                self._known.wait(WAIT_FOR_KEYS_S)
                welcome = not self._closed and mechanism == b"CURVE" and credentials[0] in self._keys
                status, text = (b"200", b"") if welcome else (b"400", b"not a worker of this attempt")
                self._socket.send_multipart([b"1.0", request, status, text, b"", b""])
        except zmq.ContextTerminated:
            return
        finally:
            self._socket.close()  # or the end of the context would be waited for without end
