"""Damaged, cut, replayed and foreign bytes on the port: refused or a clear error, never wrong data, never a hang."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time

import numpy as np
import pytest
import zmq

from twister2.spec.collectives import Call
from twister2.spec.comm import TransportContext
from twister2.spec.environment import NodeFacts
from twister2.spec.errors import NetworkError
from twister2.spec.transports import session_id
from twister2_comm_tcp.collectives import DATA, SPREAD
from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.transport import TcpTransport
from twister2_comm_tcp.wire import CALL, Batch, CallPacker, Head, Kind, pack
from twister2_testkit.seeds import drawn_seed

pytestmark = [pytest.mark.timeout(120), pytest.mark.faults]

DRAWN = "drawn"
SEEDS = [*range(6), DRAWN]
PACKER = CallPacker(3, 1, session_id("job", "session", size=8))
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" + bytes(31)


@pytest.fixture
def seed(request):
    """Decides what is damaged: one that stays, or one that is drawn."""
    return drawn_seed() if request.param == DRAWN else request.param


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


@pytest.mark.parametrize("seed", SEEDS, indirect=True)
def test_bytes_changed_on_their_way_between_hosts(line, seed):
    """CURVE notices: nothing that was changed is ever delivered, and nothing behind a message that is missing."""
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


@pytest.mark.parametrize("seed", SEEDS, indirect=True)
def test_strangers_on_the_port_disturb_nobody(line, seed):
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
    return Head(kind, 3, 1, session_id("job", "session", size=8), sequence, 0, 0)


@pytest.mark.parametrize("seed", [*range(40), DRAWN], indirect=True)
def test_damaged_messages_of_this_format(plain, seed):
    """Whatever happens to header and table: an error, or nothing of it, or frames of exactly the lengths sent."""
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
    assert got in ([], lengths), "frames of other lengths than those sent"


@pytest.mark.parametrize("seed", SEEDS, indirect=True)
def test_replayed_and_reordered_messages(plain, seed):
    """The numbers of messages: each is delivered once and in order, or it is an error."""
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


@pytest.mark.parametrize("seed", [*range(20), DRAWN], indirect=True)
def test_damaged_parts_of_collective_calls(plain, seed):
    """Whatever happens to header and words, or to the length: an error, or nothing of it; never data."""
    luck = random.Random(seed)
    reader, stranger = plain
    group = reader.native([0, 1])
    number = int.from_bytes(session_id(0, 1, 1, size=8), "little")
    data = luck.randbytes(8 * luck.randrange(1, 500))
    first = bytearray(PACKER.pack(1, 0, 0, CALL.pack(number, 1, 5, len(data)), data))
    what = luck.choice(("flip", "cut", "append"))
    if what == "flip":
        first[luck.randrange(DATA)] ^= 1 << luck.randrange(8)
    elif what == "cut":
        del first[luck.randrange(1, len(first)) :]
    elif what == "append":
        first += luck.randbytes(luck.randrange(1, 20))
    stranger.send(first)
    receive = np.zeros(len(data) // 8)
    request = group.start(Call("broadcast", root=1), None, receive, 5, 0)
    end = time.monotonic() + 0.5
    with contextlib.suppress(NetworkError):
        while time.monotonic() < end and not reader.dropped:
            assert not request.test(), f"complete with what was changed ({what})"
    assert not receive.any()


def finish(group, call, receive, step):
    request, end = group.start(call, receive, receive, step, 5), time.monotonic() + 5
    while not request.test():
        assert time.monotonic() < end
        time.sleep(0.001)


def part(group_members, number, sequence):
    group = int.from_bytes(session_id(*group_members, 1, size=8), "little")
    words = CALL.pack(group, number, (5 ^ number * SPREAD) & ((1 << 64) - 1), 8)
    return PACKER.pack(sequence, 0, 0, words, bytes([number] * 8))


def test_a_part_of_a_call_that_is_missing_or_comes_twice(plain):
    reader, stranger = plain
    group = reader.native([0, 1])
    for number in (1, 1, 3):
        stranger.send(part((0, 1), number, number))
    call, receive = Call("broadcast", root=1), np.zeros(8, "uint8")
    finish(group, call, receive, 1)
    with pytest.raises(NetworkError, match="messages 2 to 2 from worker 1 were lost"):
        finish(group, call, receive, 2)
    assert receive.tolist() == [1] * 8
    assert reader.dropped == 1


def test_a_part_from_who_is_no_member_is_an_error(plain):
    reader, stranger = plain
    group = reader.native([0, 2])
    stranger.send(part((0, 2), 1, 1))
    with pytest.raises(NetworkError, match="damaged"):
        finish(group, Call("reduce"), np.zeros(8, "uint8"), 1)


def test_parts_for_a_group_that_is_not_made_here_yet_wait_for_it_and_those_of_a_closed_one_are_dropped(plain):
    reader, stranger = plain
    for number in (1, 2, 3):
        stranger.send(part((1, 0), number, number))
    end = time.monotonic() + 5
    while reader.progress() or not reader._in.get(1):
        assert time.monotonic() < end
        if 1 in reader._in and reader._in[1]._arrived == 3:
            break
    assert reader.receive() is None
    group, receive = reader.native([1, 0]), np.zeros(8, "uint8")
    finish(group, Call("broadcast", root=0), receive, 1)
    assert receive.tolist() == [1] * 8
    group.close()
    group.close()
    stranger.send(part((1, 0), 4, 4))
    while reader._in[1].read_messages < 4:  # the window of who sent them is free again
        assert time.monotonic() < end
        reader.progress()
    assert reader.receive() is None
