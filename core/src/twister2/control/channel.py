"""The authenticated channel: CurveZMQ sockets, the master listening, everybody else dialling out.

The master's socket accepts any CURVE client that knows its public key (which only the job's tickets have); what a peer
may say is decided by the proof in its first message. A dialler tries all addresses of the master at once and keeps the
first that answers.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import zmq

from twister2.control import messages
from twister2.control.ticket import curve_pair
from twister2.spec.errors import MasterLostError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.control.messages import Message

HIGH_WATER = 100_000
"""Messages that may wait for a peer. Far more than the windows of :mod:`twister2.control.messages` let anybody send to
a peer that takes messages in.
"""

SHARED = 1 << 12
"""Bytes from which on an attachment is shared by the messages that have it."""

LOCAL_RETRY_MS, RETRY_MS = 10, 1000
"""How often a master is dialled that does not answer: one on this host, which costs next to nothing, or elsewhere."""

LOOK_S = 1.0
"""How long a wait lasts before signals are looked for: one that comes in the moment before it does not end it."""

LOOPBACK_MS = 1000
"""How long loopback may take to answer when another address of this host has."""


def _socket(context: zmq.Context[Any], kind: int) -> zmq.Socket[bytes]:
    sock: zmq.Socket[bytes] = context.socket(kind)
    sock.linger = 0
    sock.sndhwm = sock.rcvhwm = HIGH_WATER
    sock.ipv6 = True
    return sock


class Listener:
    """The master's end."""

    def __init__(self, listen: Sequence[str], public: str, secret: str) -> None:
        """Bind all addresses; ``tcp://*`` takes a free port.

        :raises NetworkError: an address cannot be bound.
        """
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._socket = _socket(self._context, zmq.ROUTER)
        self._socket.curve_server = True
        self._socket.curve_publickey = public.encode()
        self._socket.curve_secretkey = secret.encode()
        self.addresses: tuple[str, ...] = ()
        self._latest: tuple[bytes, zmq.Frame] | None = None
        try:
            self.addresses = tuple(address for wanted in listen for address in self._bind(wanted))
        except zmq.ZMQError as error:
            self.close()
            raise NetworkError(
                f"the job master cannot listen on {', '.join(listen)}",
                why=str(error),
                remedy="free the port, or choose another address with job.interface",
            ) from error

    def _bind(self, wanted: str) -> list[str]:
        if wanted.startswith("ipc://"):
            path = wanted.removeprefix("ipc://")
            if os.path.exists(path):
                os.unlink(path)
            self._socket.bind(wanted)
            os.chmod(path, 0o600)
            return [wanted]
        if wanted.endswith("://*"):
            port = self._socket.bind_to_random_port(wanted)
            return [f"tcp://{_bracket(host)}:{port}" for host in local_addresses()]
        self._socket.bind(wanted)
        endpoint = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        return [endpoint.decode().rstrip("\0") if isinstance(endpoint, bytes) else wanted]

    def fileno(self) -> int:
        return int(self._socket.fd)

    def send(self, peer: bytes, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Queue a message for a peer; silently dropped when the peer is gone.

        An attachment that goes to many peers, one after another, lies in memory once until all have it.
        """
        frames = messages.encode(kind, body, blobs)
        large = [self._frame(blob) if len(blob) >= SHARED else blob for blob in frames[1:]]
        self._socket.send_multipart([peer, frames[0], *large], copy=not large)

    def _frame(self, blob: bytes) -> zmq.Frame:
        """The attachment as zmq has it, the same for the same object."""
        if self._latest is None or self._latest[0] is not blob:
            self._latest = blob, zmq.Frame(blob)
        return self._latest[1]

    def receive(self, timeout_s: float) -> tuple[bytes, Message] | None:
        """The next message, or None when none comes in time. Messages that cannot be read are dropped."""
        while self._socket.poll(max(0, int(timeout_s * 1000))):
            frames = self._socket.recv_multipart()
            with contextlib.suppress(NetworkError):
                return frames[0], messages.decode(frames[1:])
        return None

    def close(self, linger_s: float = 0.0) -> None:
        self._socket.close(linger=int(linger_s * 1000))
        self._context.term()


class Dialer:
    """The end of a worker's supervisor or of a client."""

    def __init__(self, addresses: Sequence[str], master_public: str, *, deadline_s: float) -> None:
        """Connect to the first of the addresses that answers.

        :raises MasterLostError: none answered within ``deadline_s`` seconds.
        """
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._public, self._secret = curve_pair()
        self._master_public = master_public
        sockets = [self._connect(address) for address in addresses]
        self.address, self._socket = addresses[0], sockets[0]
        try:
            if len(sockets) > 1:
                self.address, self._socket = self._race(addresses, sockets, deadline_s)
        except MasterLostError:
            for sock in sockets:
                sock.close(linger=0)
            self._context.term()
            raise

    def _connect(self, address: str) -> zmq.Socket[bytes]:
        sock = _socket(self._context, zmq.DEALER)
        sock.curve_serverkey = self._master_public.encode()
        sock.curve_publickey = self._public.encode()
        sock.curve_secretkey = self._secret.encode()
        sock.reconnect_ivl = 2  # doubled each time: a master that is being started is there in a moment
        sock.reconnect_ivl_max = LOCAL_RETRY_MS if address.startswith("ipc://") else RETRY_MS
        try:
            sock.connect(address)
        except zmq.ZMQError as error:
            sock.close(linger=0)
            raise NetworkError(
                f"the job master cannot be dialled at {address}",
                why=str(error),
                remedy="see that the address is one this host knows; a path of a socket has at most 107 bytes",
            ) from error
        return sock

    @staticmethod
    def _race(
        addresses: Sequence[str], sockets: Sequence[zmq.Socket[bytes]], deadline_s: float
    ) -> tuple[str, zmq.Socket[bytes]]:
        poller = zmq.Poller()
        for sock in sockets:
            sock.send_multipart(messages.encode("knock", {}))
            poller.register(sock, zmq.POLLIN)
        end, ready = time.monotonic() + deadline_s, dict[Any, int]()
        while not ready and (left := end - time.monotonic()) > 0:
            ready = dict(poller.poll(int(min(left, LOOK_S) * 1000)))
        ways = list(zip(addresses, sockets, strict=True))
        own = tuple(f"tcp://{_bracket(host)}:" for host in local_addresses())
        ways.sort(key=lambda way: not way[0].startswith("tcp://127."))
        if ways[0][0].startswith("tcp://127.") and any(sock in ready and to.startswith(own) for to, sock in ways):
            # The master is on this host: loopback stays when the interface of another address goes.
            ways[0][1].poll(LOOPBACK_MS)
            ready = dict(poller.poll(0))
        for address, sock in ways:
            if sock in ready:
                sock.recv_multipart()
                for other in sockets:
                    if other is not sock:
                        other.close(linger=0)
                return address, sock
        raise MasterLostError(
            f"none of the job master's addresses answered within {round(deadline_s, 2):g} s",
            why="tried " + ", ".join(addresses),
            remedy="check that this host can reach the master's (firewall, network interface: job.interface)",
            where=socket.gethostname(),
        )

    @property
    def socket(self) -> zmq.Socket[bytes]:
        return self._socket

    def send(self, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Queue a message for the master; kept while the connection is broken. Never blocks.

        :raises MasterLostError: too many messages wait for it already.
        """
        try:
            self._socket.send_multipart(messages.encode(kind, body, blobs), flags=zmq.NOBLOCK, copy=True)
        except zmq.Again:
            raise MasterLostError(
                f"the job master takes in no messages any more: {HIGH_WATER:,} wait for it",
                why=f"it hangs, was stopped, or cannot be reached at {self.address}",
                remedy="see the job's log; submit the job again",
                where=socket.gethostname(),
            ) from None

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, or None when none comes in time."""
        if not self._socket.poll(max(0, int(timeout_s * 1000))):
            return None
        return messages.decode(self._socket.recv_multipart())

    def request(
        self,
        kind: str,
        body: dict[str, Any],
        answers: Sequence[str],
        deadline_s: float,
        others: list[Message] | None = None,
    ) -> Message:
        """Send a message and wait for one of these kinds of answer.

        :param others: takes the messages that come before the answer; without it they are dropped.
        :raises MasterLostError: no answer in time.
        """
        self.send(kind, body)
        end = time.monotonic() + deadline_s
        while (left := end - time.monotonic()) > 0:
            message = self.receive(left)
            if message is not None and message.kind in answers:
                return message
            if message is not None and others is not None:
                others.append(message)
        raise self.silent(kind, deadline_s)

    def silent(self, kind: str, deadline_s: float) -> MasterLostError:
        """The error of a message without an answer."""
        return MasterLostError(
            f"the job master did not answer '{kind}' within {deadline_s:g} s",
            why=f"nothing came from {self.address}",
            remedy="see 'twister2 status' and the job's log; 'twister2 kill' works without the master",
        )

    def close(self, linger_s: float = 0.0) -> None:
        self._socket.close(linger=int(linger_s * 1000))
        self._context.term()


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def local_addresses() -> list[str]:
    """Addresses of this host that others may dial: the one that leads outside first, since those of bridges and tunnels
    come and go with what they are for; loopback last. Names are not resolved over the network.
    """
    found: list[str] = []
    try:
        with open("/proc/net/fib_trie", encoding="utf-8") as file:
            lines = file.read().splitlines()
        for line, following in itertools.pairwise(lines):
            if "/32 host LOCAL" in following and "|--" in line:
                found.append(line.split("|--")[1].strip())
    except OSError:
        found.append(socket.gethostbyname(socket.gethostname()))
    return in_order(found or ["127.0.0.1"], _outside())


def in_order(addresses: Sequence[str], outside: str) -> list[str]:
    """Each address once, that of the default route first, loopback last."""
    return sorted(dict.fromkeys(addresses), key=lambda text: (text.startswith("127."), text != outside))


def _outside() -> str:
    """The address of this host by its default route; empty without one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # an address of nobody (RFC 5737)
        except OSError:
            return ""
        return str(probe.getsockname()[0])
