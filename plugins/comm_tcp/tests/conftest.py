"""Two transports with a proxy between them."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

import attrs
import pytest
import zmq

from twister2.spec.comm import TransportContext
from twister2.spec.environment import NodeFacts
from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.transport import TcpTransport


class Proxy:
    """Forwards connections to a port; can swallow, change and record what is sent, and cut all connections."""

    def __init__(self, port):
        self.target = port
        self.swallow, self.swallowed = False, 0
        self.mangle = None
        self.seen = bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop.is_set():
            pairs = list(self.pairs)
            everything = [self.listener, *(end for pair in pairs for end in pair)]
            try:
                ready = select.select(everything, [], [], 0.02)[0]
            except (OSError, ValueError):
                continue
            for end in ready:
                with contextlib.suppress(OSError):
                    if end is self.listener:
                        self.take_in(end.accept()[0])
                        continue
                    pair = next(pair for pair in pairs if end in pair)
                    data = end.recv(1 << 16)
                    if not data:
                        self.drop(pair)
                    elif self.swallow and end is pair[0]:
                        self.swallowed += len(data)
                    else:
                        if end is pair[0]:
                            self.seen += data
                            data = self.mangle(data) if self.mangle else data
                        pair[1 - pair.index(end)].sendall(data)

    def take_in(self, near):
        try:
            self.pairs.append((near, socket.create_connection(("127.0.0.1", self.target), timeout=5)))
        except OSError:  # the reader is closed: who dials it in vain
            near.close()

    def drop(self, pair):
        with contextlib.suppress(ValueError):
            self.pairs.remove(pair)
        for end in pair:
            end.close()

    def cut(self):
        for pair in list(self.pairs):
            self.drop(pair)

    def close(self):
        self.stop.set()
        self.thread.join(5)
        self.cut()
        self.listener.close()


@pytest.fixture
def line(tmp_path):
    """Reader (rank 0), writer (rank 1), and the proxy between them."""
    keys = [tuple(key.decode() for key in zmq.curve_keypair()) for _ in range(2)]
    first = TransportContext(
        job_id="job",
        attempt=1,
        rank=0,
        size=2,
        node=NodeFacts("host"),
        runtime_dir=str(tmp_path),
        session="session",
        curve_public=keys[0][0],
        curve_secret=keys[0][1],
        peer_keys={0: keys[0][0], 1: keys[1][0]},
        aborted=lambda: False,
    )
    second = attrs.evolve(first, rank=1, curve_public=keys[1][0], curve_secret=keys[1][1])
    transports = [TcpTransport(TcpConfig(same_host="tcp"), context) for context in (first, second)]
    addresses = {rank: transport.open() for rank, transport in enumerate(transports)}
    proxy = Proxy(addresses[0]["port"])
    addresses[0] = {**addresses[0], "port": proxy.port}
    for transport in transports:
        transport.connect(addresses)
    yield *transports, proxy
    proxy.cut()
    for transport in transports:
        transport.close(aborted=True)
    proxy.close()
