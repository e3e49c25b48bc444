"""Damaged, cut, replayed and foreign bytes on the port: refused or a clear error, never wrong data, never a hang."""

from __future__ import annotations

import random
import socket
import struct
import time

import pytest
import zmq

from twister2.spec.comm import TransportContext
from twister2.spec.environment import NodeFacts
from twister2.spec.errors import NetworkError
from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.transport import TcpTransport
from twister2_comm_tcp.wire import Batch, Head, Kind, pack, session_id

pytestmark = [pytest.mark.timeout(120), pytest.mark.faults]

SEEDS = range(6)
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" + bytes(31)


def number(data):
    return int.from_bytes(data[:8], "little")


def message(count, luck):
    """A numbered message whose bytes all follow from its number."""
    size = luck.choice((8, 100, 5000, 70_000))
    return [count.to_bytes(8, "little") * (size // 8)]


def check(received, expected):
    data = bytes(received.frames[0])
    assert number(data) == expected, f"message {number(data)} came where {expected} was due"
    assert data == data[:8] * (len(data) // 8), f"message {expected} is not as it was sent"


@pytest.mark.parametrize("seed", SEEDS)
def test_bytes_changed_on_their_way_between_hosts(line, seed):
    """CURVE notices: nothing that was changed is ever delivered, and nothing behind a message that is missing."""
    print("seed", seed)
    luck = random.Random(seed)
    reader, writer, proxy = line

    changed = []

    def mangle(data):
        before, data = data, bytearray(data)
        what = luck.choice(("flip", "cut", "insert", "repeat"))
        at = luck.randrange(len(data))
        if what == "flip":
            data[at] ^= 1 << luck.randrange(8)
        elif what == "cut":
            del data[at : at + luck.randrange(1, 200)]
        elif what == "insert":
            data[at:at] = luck.randbytes(luck.randrange(1, 200))
        else:
            data[at:at] = data[max(0, at - 300) : at]
        if data != before:
            changed.append(what)
        return bytes(data)

    sent = got = 0
    harm = luck.randrange(5, 60)
    end = time.monotonic() + 6
    lost = ""
    while time.monotonic() < end and not lost:
        try:
            if writer.isend(0, message(sent, luck)) is not None:
                sent += 1
                proxy.mangle = mangle if sent == harm else None if sent > harm + 3 else proxy.mangle
            else:
                time.sleep(0.001)
            writer.progress()
            while (received := reader.receive()) is not None:
                check(received, got)
                got += 1
            reader.progress()
        except NetworkError as error:
            lost = error.what
    assert got < sent or not changed
    # no error is right as well: a length that grew leaves the reader waiting for the rest, as if the writer were slow
    assert not lost or "were lost" in lost


def test_a_replayed_connection_is_refused(line):
    reader, writer, proxy = line
    while writer.isend(0, [b"once"]) is None:
        writer.progress()
        reader.progress()
    end = time.monotonic() + 10
    while (received := reader.receive()) is None:
        assert time.monotonic() < end
        reader.progress()
        writer.progress()
    assert received.frames[0] == b"once"
    recorded = bytes(proxy.seen)
    for cut in (len(recorded), len(recorded) // 2, 64, 10):
        with socket.create_connection(("127.0.0.1", proxy.target)) as stranger:
            stranger.sendall(recorded[:cut])
            quiet(reader, 0.3)
    assert reader.dropped == 0


def quiet(reader, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert reader.receive() is None, "a message that nobody sent"
        reader.progress()
        time.sleep(0.002)


@pytest.mark.parametrize("seed", SEEDS)
def test_strangers_on_the_port_disturb_nobody(line, seed):
    print("seed", seed)
    luck = random.Random(seed)
    reader, writer, proxy = line
    strangers = []
    for _ in range(12):
        stranger = socket.create_connection(("127.0.0.1", proxy.target))
        kind = luck.choice(("noise", "http", "greeting", "half", "huge", "mute"))
        if kind == "noise":
            stranger.sendall(luck.randbytes(luck.randrange(1, 3000)))
        elif kind == "http":
            stranger.sendall(b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + luck.randbytes(500))
        elif kind == "greeting":
            stranger.sendall(GREETING + luck.randbytes(luck.randrange(1, 500)))
        elif kind == "half":
            stranger.sendall(GREETING[: luck.randrange(1, 64)])
        elif kind == "huge":
            stranger.sendall(GREETING + b"\x06" + struct.pack(">Q", luck.choice((1 << 40, (1 << 63) - 1))) + bytes(99))
        strangers.append(stranger)
    got = sent = 0
    end = time.monotonic() + 20
    while got < 200:
        assert time.monotonic() < end, f"{got} of {sent} messages came"
        if sent < 200 and writer.isend(0, message(sent, luck)) is not None:
            sent += 1
        received = reader.receive()
        if received is not None:
            check(received, got)
            got += 1
        reader.progress()
        writer.progress()
    for stranger in strangers:
        stranger.close()
    assert reader.dropped == 0


@pytest.fixture
def plain(tmp_path):
    """A transport on plain TCP and a socket that says what it likes."""
    context = TransportContext(
        job_id="job",
        attempt=3,
        rank=0,
        size=2,
        node=NodeFacts("host"),
        runtime_dir=str(tmp_path),
        session="session",
        curve_public="",
        curve_secret="",
        peer_keys={},
        aborted=lambda: False,
    )
    reader = TcpTransport(TcpConfig(same_host="tcp", plain=True), context)
    address = reader.open()
    reader.connect({0: address})
    zmq_context = zmq.Context()
    stranger = zmq_context.socket(zmq.PUSH)
    stranger.linger = 0
    stranger.connect(f"tcp://127.0.0.1:{address['port']}")
    yield reader, stranger
    stranger.close()
    zmq_context.term()
    reader.close(aborted=True)


def head(sequence, kind=Kind.DATA):
    return Head(kind, 3, 1, session_id("job", "session"), sequence, 0, 0)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_messages_of_this_format(plain, seed):
    """Whatever happens to header and table: an error, or nothing of it, or frames of the lengths that were sent."""
    print("seed", seed)
    luck = random.Random(seed)
    reader, stranger = plain
    count = luck.randrange(1, 6)
    batch = Batch()
    lengths = []
    for _ in range(count):
        frames = [luck.randbytes(luck.choice((0, 3, 8, 300, 9000))) for _ in range(luck.randrange(1, 4))]
        lengths.append(list(map(len, frames)))
        batch.add(frames, 5000)
    parts = [bytearray(part) for part in batch.pack(head(1))]
    first = parts[0]
    words = sum(1 + len(one) for one in lengths)
    for _ in range(luck.randrange(1, 4)):
        what = luck.choice(("flip", "cut", "append", "drop part", "add part", "swap parts"))
        if what == "flip":
            first[luck.randrange(min(len(first), 64 + 8 * words))] ^= 1 << luck.randrange(8)
        elif what == "cut":
            del first[luck.randrange(len(first)) :]
            first += b"" if first else b"T"
        elif what == "append":
            first += luck.randbytes(luck.randrange(1, 20))
        elif what == "drop part" and len(parts) > 1:
            del parts[luck.randrange(1, len(parts))]
        elif what == "add part":
            parts.append(bytearray(luck.randbytes(10)))
        elif what == "swap parts":
            parts[1:] = luck.sample(parts[1:], len(parts) - 1)
    stranger.send_multipart(parts)
    end = time.monotonic() + 0.5
    got = []
    try:
        while time.monotonic() < end and not reader.dropped:
            if (received := reader.receive()) is not None:
                got.append([len(frame) for frame in received.frames])
            reader.progress()
    except NetworkError:
        return
    total = sum(map(sum, lengths)) + 60
    assert sum(map(sum, got)) <= total, "frames longer than what was sent"


@pytest.mark.parametrize("seed", SEEDS)
def test_replayed_and_reordered_messages(plain, seed):
    """The numbers of messages: each is delivered once and in order, or it is an error."""
    print("seed", seed)
    luck = random.Random(seed)
    reader, stranger = plain
    sent = [pack(head(number + 1), [number.to_bytes(8, "little")], 1 << 16) for number in range(50)]
    plan = sorted((*range(50), *(luck.randrange(50) for _ in range(20))), key=lambda at: at + luck.choice((0, 0, 0, 2)))
    for at in plan:
        stranger.send_multipart(sent[at])
    got = []
    end = time.monotonic() + 3
    lost = ""
    while time.monotonic() < end and len(got) < 50 and not lost:
        try:
            if (received := reader.receive()) is not None:
                got.append(number(bytes(received.frames[0])))
            reader.progress()
        except NetworkError as error:
            lost = error.what
    assert got == list(range(len(got)))
    assert len(got) == 50 or "were lost" in lost
