"""WebSocket and port-forward against a server of the test's own. No cluster is needed."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.errors import ResourceError
from twister2_rm_k8s import forward
from twister2_rm_k8s.api import Api, RefusedError
from twister2_rm_k8s.forward import forwarded
from twister2_rm_k8s.kubeconfig import Access, Server
from twister2_rm_k8s.websocket import GUID, Frames, frame


def unmask(data: bytes) -> bytes:
    """A client's frame as a server would send it."""
    size, at = data[1] & 0x7F, 2
    if size >= 126:
        at += 2 if size == 126 else 8
    mask, payload = data[at : at + 4], data[at + 4 :]
    plain = bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))
    return bytes([data[0], data[1] & 0x7F]) + data[2:at] + plain


@given(st.lists(st.binary(max_size=70000), max_size=4), st.integers(1, 5000))
def test_messages_come_whole_however_they_are_cut(payloads, step):
    data = b"".join(unmask(frame(payload)) for payload in payloads)
    frames, got = Frames(), []
    for at in range(0, len(data), step):
        frames.feed(data[at : at + step])
        while (message := frames.next()) is not None:
            got.append(message[1])
    assert got == payloads


@pytest.mark.parametrize("data", [frame(b"masked"), b"\x82\x7f" + b"\xff" * 8], ids=["masked", "too long"])
def test_what_no_server_sends_is_refused(data):
    frames = Frames()
    frames.feed(data)
    with pytest.raises(ValueError, match="WebSocket"):
        frames.next()


@pytest.fixture
def server():
    """Upgrades, and echoes what channel 0 brings; tells what it was asked."""
    listening = socket.create_server(("127.0.0.1", 0))
    asked: list[str] = []

    def serve(sock: socket.socket) -> None:
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            asked.append(head.decode())
            if "ports=403" in asked[-1]:
                body = b'{"reason": "Forbidden", "message": "pods is forbidden: User \\"x\\" cannot"}'
                sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                return
            key = next(line.split(": ")[1] for line in asked[-1].split("\r\n") if line.startswith("Sec-WebSocket-Key"))
            accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
            sock.sendall(f"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
            port = (4242).to_bytes(2, "little")
            sock.sendall(unmask(frame(b"\0" + port)) + unmask(frame(b"\1" + port)) + unmask(frame(b"", 9)))
            buffer = b""
            while data := sock.recv(1 << 16):
                buffer += data
                while len(buffer) >= 2:
                    size, at = buffer[1] & 0x7F, 2
                    if size == 126:
                        size, at = int.from_bytes(buffer[2:4], "big"), 4
                    if len(buffer) < at + 4 + size:
                        break
                    plain = unmask(buffer[: at + 4 + size])
                    if plain[0] & 0x0F == 2:
                        sock.sendall(plain)
                    buffer = buffer[at + 4 + size :]

    def accept() -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def api(url, timeout_s=10.0):
    return Api(Access(Server(url=url), {"token": "secret-token"}), timeout_s)


def test_connections_are_carried_both_ways(server):
    url, asked = server
    with forwarded(api(url), "/api/v1/namespaces/x/pods/y", 4242) as address:
        port = int(address.rpartition(":")[2])
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), 10) as near:
                sent = os.urandom(200_000)
                threading.Thread(target=near.sendall, args=(sent,), daemon=True).start()
                got = b""
                while len(got) < len(sent):
                    got += near.recv(1 << 16)
                assert got == sent
    assert asked[0].startswith("GET /api/v1/namespaces/x/pods/y/portforward?ports=4242 HTTP/1.1")
    assert "Authorization: Bearer secret-token" in asked[0]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 10)


@pytest.mark.timeout(30)
def test_the_end_waits_for_no_connection(server, monkeypatch):
    monkeypatch.setattr(forward, "TURN_S", 600.0)
    url, _ = server
    with forwarded(api(url), "/pods/y", 4242) as address:
        near = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 10)
        with near:
            near.sendall(b"x")
            assert near.recv(1) == b"x"


def test_a_refusal_is_seen_before_anybody_connects(server):
    url, _ = server
    with pytest.raises(RefusedError, match="forbidden"), forwarded(api(url), "/pods/y", 403):
        pass


def test_a_node_that_does_not_answer_is_an_error_that_says_so():
    """The server waits for the dead node of the pod, and says nothing meanwhile."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ResourceError, match="port 4242 of a pod cannot be forwarded") as raised,
        forwarded(api(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2), "/pods/y", 4242),
    ):
        pass
    assert "the node of the pod, does not answer" in raised.value.why
