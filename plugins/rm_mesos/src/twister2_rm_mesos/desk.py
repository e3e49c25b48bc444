"""Where copies fetch their tickets: a socket of the scheduler, encrypted, and kept open for what comes later.

Mesos has no safe way for a secret to a command task that every cluster offers: a task's environment is that of its
executor's process too, whatever type the variable has; a sandbox can be read through the agents' files API; and
secrets as volumes need an isolator (``volume/secret``) of the agents. So a task gets only what is worthless soon: the
public key of this desk, and a claim that is good once. The copy makes a key of its own and asks over CurveZMQ.
"""

from __future__ import annotations

import json
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs
import zmq

if TYPE_CHECKING:
    from twister2_rm_mesos.config import MesosConfig


@attrs.define
class Seat:
    """What is known of a task's copy.

    :ivar claim: what it will prove itself by, empty once it has. :ivar session: what it has proved itself with since.
    """

    claim: str = attrs.field(repr=False)
    session: str = attrs.field(default="", repr=False)
    peer: bytes = b""


class Desk:
    """The listening end."""

    def __init__(self, config: MesosConfig, kept: dict[str, Any]) -> None:
        """
        :param kept: what :meth:`to_dict` of an earlier desk of this job gave, else empty: its copies dial this one.
        """
        if not kept:
            public, secret = zmq.curve_keypair()
            kept = {"public": public.decode(), "secret": secret.decode(), "port": 0, "seats": {}}
        self.public, self._secret = str(kept["public"]), str(kept["secret"])
        self.seats = {name: Seat(*each) for name, each in kept["seats"].items()}
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.maxmsgsize = 1 << 16
        self._socket.curve_server = True
        self._socket.curve_publickey = self.public.encode()
        self._socket.curve_secretkey = self._secret.encode()
        self._socket.bind(f"tcp://*:{kept['port'] or '*'}")
        self.port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self.address = f"tcp://{own_address(config)}:{self.port}"
        self.ticket = b""

    def to_dict(self) -> dict[str, Any]:
        """For a scheduler that takes over; secret."""
        seats = {name: (seat.claim, seat.session) for name, seat in self.seats.items()}
        return {"public": self.public, "secret": self._secret, "port": self.port, "seats": seats}

    def fileno(self) -> int:
        return int(self._socket.fd)

    def reserve(self, task_id: str) -> str:
        """A claim for a new task's copy."""
        claim = secrets.token_hex(16)
        self.seats[task_id] = Seat(claim)
        return claim

    def publish(self, ticket: bytes) -> None:
        """Give all copies another ticket."""
        self.ticket = ticket
        for seat in self.seats.values():
            self._give(seat)

    def stop(self, task_id: str, grace_s: float) -> bool:
        """Tell a copy to end; False when it has not come to the desk yet."""
        seat = self.seats.get(task_id)
        if seat is None or not seat.peer:
            return False
        self._socket.send_multipart([seat.peer, b"stop", str(grace_s).encode()])
        return True

    def drop(self, task_id: str) -> None:
        """The copy has ended."""
        self.seats.pop(task_id, None)

    def serve(self) -> bool:
        """Answer all that has come; whether a claim was used up."""
        changed = False
        while self._socket.poll(0):
            peer, *frames = self._socket.recv_multipart()
            with suppress(ValueError, KeyError, TypeError, UnicodeDecodeError):
                changed |= self._hear(peer, json.loads(b"".join(frames)))
        return changed

    def _hear(self, peer: bytes, said: dict[str, str]) -> bool:
        seat = self.seats.get(str(said["task"]))
        if seat is None:
            return False
        claim, session = str(said["claim"]), str(said["session"])
        fresh = False
        if seat.session:
            if not secrets.compare_digest(session.encode(), seat.session.encode()):
                self._socket.send_multipart([peer, b"refused", b"the claim was used already, by somebody else"])
                return False
        elif not session or not secrets.compare_digest(claim.encode(), seat.claim.encode()):
            return False
        else:
            seat.session, seat.claim, fresh = session, "", True
        again = seat.peer != peer
        seat.peer = peer
        if again:
            self._give(seat)
        return fresh

    def _give(self, seat: Seat) -> None:
        if seat.peer and self.ticket:
            self._socket.send_multipart([seat.peer, b"ticket", self.ticket])

    def close(self) -> None:
        self._socket.close(linger=500)
        self._context.term()


def own_address(config: MesosConfig) -> str:
    """The address of this host that agents can dial: the one that faces Mesos' master, unless it is configured."""
    if config.host:
        return f"[{config.host}]" if ":" in config.host else config.host
    url = urlsplit(config.masters[0])
    for family, kind, protocol, _, address in socket.getaddrinfo(
        url.hostname, url.port or 5050, type=socket.SOCK_DGRAM
    ):
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # sends nothing: it only finds the way
            found = str(probe.getsockname()[0])
            return f"[{found}]" if ":" in found else found
    return socket.gethostname()
