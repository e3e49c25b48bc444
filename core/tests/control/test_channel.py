"""The authenticated channel: strangers and garbage do not disturb it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from twister2.control import messages
from twister2.control.channel import Dialer, Listener, in_order, local_addresses
from twister2.control.ticket import curve_pair
from twister2.spec.errors import MasterLostError, NetworkError


class Channel:
    def __init__(self, address: str) -> None:
        self.public, self.secret = curve_pair()
        self.listener = Listener((address,), self.public, self.secret)

    def heard(self, seconds: float, last: str = "") -> list[str]:
        """What comes in this time, or until the last of it has come."""
        end = time.monotonic() + seconds
        kinds: list[str] = []
        while last not in kinds and (left := end - time.monotonic()) > 0:
            received = self.listener.receive(left)
            if received is not None:
                kinds.append(received[1].kind)
        return kinds


@pytest.fixture(params=["ipc", "tcp"])
def channel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Channel]:
    short = Path(f"/tmp/t2c-{os.getpid()}-{time.monotonic_ns()}")
    channel = Channel(f"ipc://{short}" if request.param == "ipc" else "tcp://*")
    yield channel
    channel.listener.close()
    short.unlink(missing_ok=True)


def conversation(channel: Channel) -> None:
    """One message there and one back."""
    dialer = (
        Dialer(channel.listener.addresses, channel.public, deadline_s=20.0)
        if len(channel.listener.addresses) == 1
        else None
    )
    address = channel.listener.addresses[-1:]
    dialer = dialer or Dialer(address, channel.public, deadline_s=20.0)
    dialer.send("hello", {"größe": [1, None, "x"]}, [b"", b"\x00" * 100_000])
    received = channel.listener.receive(20.0)
    assert received is not None
    peer, message = received
    assert (message.kind, message.body) == ("hello", {"größe": [1, None, "x"]})
    assert [len(blob) for blob in message.blobs] == [0, 100_000]
    channel.listener.send(peer, "answer", {"n": 1})
    answer = dialer.receive(20.0)
    assert answer is not None
    assert answer.kind == "answer"
    dialer.close()


def test_a_conversation(channel: Channel) -> None:
    conversation(channel)


def raw(address: str) -> socket.socket:
    if address.startswith("ipc://"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address.removeprefix("ipc://"))
        return sock
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), 20)


def test_garbage_on_the_socket_does_not_disturb(channel: Channel) -> None:
    address = channel.listener.addresses[-1]
    open_ones = []
    for data in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"\xff" + b"\0" * 8 + b"\x7f\x03", b""):
        sock = raw(address)
        open_ones.append(sock)
        sock.sendall(data)
    assert channel.heard(0.3) == []
    conversation(channel)
    for sock in open_ones:
        sock.close()


def test_strangers_without_the_key_are_not_heard(channel: Channel) -> None:
    address = channel.listener.addresses[-1]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    plain = context.socket(zmq.DEALER)
    plain.connect(address)
    plain.send_multipart(messages.encode("attach", {"client_key": "x"}))
    wrong = context.socket(zmq.DEALER)
    other, _ = curve_pair()
    public, secret = curve_pair()
    wrong.curve_serverkey, wrong.curve_publickey, wrong.curve_secretkey = (
        other.encode(),
        public.encode(),
        secret.encode(),
    )
    wrong.connect(address)
    wrong.send_multipart(messages.encode("attach", {"client_key": "x"}))
    assert channel.heard(0.5) == []
    conversation(channel)
    for sock in (plain, wrong):
        sock.close(linger=0)
    context.term()


def test_messages_that_cannot_be_read_are_dropped(channel: Channel) -> None:
    dialer = Dialer(channel.listener.addresses[-1:], channel.public, deadline_s=20.0)
    for frames in ([b""], [b"\xff\xfe"], [b"[1,2]"], [b'["a"]'], [b'{"a":1}'], [b'["a",{}'], [b'["a",[]]']):
        dialer.socket.send_multipart(frames)
    dialer.send("good", {})
    assert channel.heard(20.0, "good") == ["good"]
    dialer.close()


def test_a_dialler_tries_all_addresses_and_names_them(tmp_path: Path) -> None:
    public, secret = curve_pair()
    listener = Listener(("tcp://127.0.0.1:*",), public, secret)
    with pytest.raises(MasterLostError) as caught:
        Dialer(("tcp://127.0.0.1:1", "tcp://127.0.0.1:2"), public, deadline_s=0.5)
    assert "tcp://127.0.0.1:1" in str(caught.value)
    listener.close()


def test_a_request_without_an_answer_has_a_deadline(tmp_path: Path) -> None:
    public, _ = curve_pair()
    dialer = Dialer(("tcp://127.0.0.1:1",), public, deadline_s=0.5)
    begin = time.monotonic()
    with pytest.raises(MasterLostError, match="did not answer 'hello'"):
        dialer.request("hello", {}, ("welcome",), 0.3)
    assert time.monotonic() - begin < 30
    dialer.close()


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(NetworkError, match=address.removeprefix("tcp://")):
            Listener((address,), *curve_pair())


def test_the_socket_is_private(tmp_path: Path) -> None:
    short = Path(f"/tmp/t2c-{os.getpid()}-{time.monotonic_ns()}")
    listener = Listener((f"ipc://{short}",), *curve_pair())
    assert short.stat().st_mode & 0o777 == 0o600
    listener.close()
    short.unlink(missing_ok=True)


def test_loopback_comes_last() -> None:
    assert local_addresses()[-1].startswith("127.")


@pytest.mark.parametrize("outside", ["192.0.2.2", ""])
def test_the_address_that_leads_outside_comes_first(outside: str) -> None:
    found = in_order(["10.1.0.1", "127.0.0.1", "192.0.2.2", "10.1.0.1"], outside)
    first = [outside] if outside else []
    assert found == [*first, *(address for address in ("10.1.0.1", "192.0.2.2") if address != outside), "127.0.0.1"]


def test_a_master_on_this_host_is_dialled_over_loopback() -> None:
    """Another address may go with its interface, as those of container networks do."""
    public, secret = curve_pair()
    listener = Listener(("tcp://*",), public, secret)
    over = threading.Event()

    def answer() -> None:
        while not over.is_set():
            if (received := listener.receive(0.05)) is not None:
                listener.send(received[0], "knocked", {})

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        for _ in range(5):
            dialer = Dialer(listener.addresses, public, deadline_s=20)
            assert dialer.address.startswith("tcp://127.")
            dialer.close()
    finally:
        over.set()
        thread.join(20)
        listener.close()


def test_a_master_that_takes_nothing_in_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twister2.control.channel.HIGH_WATER", 50)
    dialer = Dialer(["tcp://127.0.0.1:1"], curve_pair()[0], deadline_s=1.0)
    begun = time.monotonic()

    def flood() -> None:
        for _ in range(1000):
            dialer.send("beat", {})

    with pytest.raises(MasterLostError, match="50 wait for it"):
        flood()
    assert time.monotonic() - begun < 30
    dialer.close()
