"""Messages over a Unix socket without zmq: whole, in order however the kernel cuts them, and nothing of strangers."""

from __future__ import annotations

import errno
import os
import random
import resource
import socket
import struct
import time

import pytest

from twister2.spec.errors import NetworkError, ResourceError
from twister2_comm_tcp import lane as lanes
from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.lane import Inlet, Lane, Listener
from twister2_comm_tcp.outgoing import BEHIND
from twister2_comm_tcp.transport import TcpTransport
from twister2_comm_tcp.ways import SENT, BrokenWayError
from twister2_comm_tcp.wire import MalformedError

from .test_strangers import contexts, message, start, until


@pytest.fixture
def ends():
    """A lane, the inlet at its other end, and what the lane has asked to be told of."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    watched = []
    lane, inlet = Lane(near, lambda fd, wanted: watched.append((fd, wanted))), Inlet(far)
    yield lane, inlet, watched
    lane.close()
    inlet.close()


def take(inlet, lane=None):
    end = time.monotonic() + 30
    while (found := inlet.take()) is None:
        assert time.monotonic() < end
        if lane is not None:
            lane.push()
    first, parts = found
    return [bytes(first), *map(bytes, parts)]


@pytest.mark.parametrize("seed", range(10))
def test_messages_arrive_whole_and_in_order(ends, seed):
    print("seed", seed)
    luck = random.Random(seed)
    lane, inlet, _ = ends
    sent, sends, got = [], [], []
    for _ in range(60):
        sizes = [luck.choice((0, 1, 8, 150, 5000, 70_000, 700_000)) for _ in range(luck.choice((1, 1, 2, 3)))]
        parts = [luck.randbytes(1) * size for size in sizes]
        if luck.random() < 0.3:
            changed = bytearray(parts[0])
            sends.append(lane.post(b"head", changed))
            changed[:] = bytes(len(changed))  # which the caller of a collective may do
            parts = [b"head" + parts[0]]
        else:
            sends.append(lane.send(parts))
        sent.append(parts)
        while luck.random() < 0.5 and len(got) < len(sent):
            got.append(take(inlet, lane))
    while len(got) < len(sent):
        got.append(take(inlet, lane))
    assert got == sent
    assert all(send.done for send in sends)
    assert inlet.take() is None
    assert not inlet.ended


def test_what_the_kernel_does_not_take_is_not_done_and_the_descriptor_is_watched(ends):
    lane, inlet, watched = ends
    large = bytes(8 << 20)
    send = lane.send([b"first", large])
    assert not send.done
    after = lane.send([b"second"])
    assert not after.done
    assert len(watched) == 1
    assert watched[0][1]
    assert take(inlet, lane) == [b"first", large]
    assert take(inlet, lane) == [b"second"]
    assert send.done
    assert after.done
    assert [wanted for _, wanted in watched] == [True, False]
    assert lane.send([b"third"]) is SENT


def test_many_pieces_in_one_message(ends):
    lane, inlet, _ = ends
    parts = [b"first", *(bytes([number & 255]) * 9 for number in range(3000))]
    lane.send(parts)
    assert take(inlet, lane) == parts


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" + bytes(100),
        struct.pack("<4sIQ", b"T2u1", 0, 1 << 50),
        struct.pack("<4sIQ", b"T2u1", 1 << 30, 5),
        struct.pack("<4sIQQ", b"T2u1", 1, 5, 1 << 60),
    ],
    ids=["http", "an absurd length", "absurdly many parts", "an absurd part"],
)
def test_what_is_no_message_is_malformed(data):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    inlet = Inlet(far)
    near.sendall(data)
    with pytest.raises(MalformedError):
        inlet.take()
    near.close()
    inlet.close()


@pytest.mark.parametrize("cut", [1, 15, 16, 20, 40, 60])
def test_a_message_that_is_cut_by_the_end_is_never_delivered(cut):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    inlet = Inlet(far)
    near.sendall((struct.pack("<4sIQQ", b"T2u1", 1, 8, 40) + bytes(48))[:cut])
    assert inlet.take() is None
    near.close()
    assert inlet.take() is None
    assert inlet.ended
    inlet.close()


def test_a_lane_whose_reader_has_gone_says_so(ends):
    lane, inlet, _ = ends
    lane.send([b"first", bytes(8 << 20)])
    inlet.close()
    with pytest.raises(BrokenWayError):
        lane.push()
    with pytest.raises(BrokenWayError):
        lane.post(b"more", b"")


@pytest.fixture
def pair(tmp_path):
    """Two transports that talk over Unix sockets, and their addresses."""
    tmp_path.chmod(0o700)
    transports, addresses = start(TcpConfig(), *contexts(tmp_path))
    yield (*transports, addresses)
    for made in transports:
        made.close(aborted=True)


def test_who_writes_something_else_to_the_socket_is_hung_up_on(pair):
    one, two, addresses = pair
    stranger = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stranger.connect(addresses[0]["ipc"])
    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    stranger.settimeout(30)
    until(lambda: one.dropped == 1, one)
    with pytest.raises(BrokenPipeError):  # what follows is not read
        stranger.sendall(bytes(8 << 20))
    stranger.close()
    until(lambda: two.isend(0, [b"still there"]), one, two)
    assert bytes(until(one.receive, one).frames[0]) == b"still there"


def test_processes_of_other_users_are_not_let_in(pair, monkeypatch):
    one, _, addresses = pair
    monkeypatch.setattr(lanes, "same_user", lambda connection: False)
    stranger = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stranger.connect(addresses[0]["ipc"])
    stranger.settimeout(30)
    one.progress()
    assert stranger.recv(1) == b""
    stranger.close()


def test_a_message_of_another_attempt_is_dropped(pair):
    one, _, addresses = pair
    stranger = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stranger.connect(addresses[0]["ipc"])
    (old,), (new,) = message(attempt=2), message()
    for part in (old, new):
        stranger.sendall(struct.pack("<4sIQ", b"T2u1", 0, len(part)) + part)
    assert bytes(until(one.receive, one).frames[0]) == b"data"
    assert one.dropped == 1
    stranger.close()


def test_a_peer_that_was_killed_is_an_error_of_who_sends_to_it(tmp_path):
    tmp_path.chmod(0o700)
    here, there = contexts(tmp_path)
    one = TcpTransport(TcpConfig(), here)
    addresses = {0: one.open()}
    asked, told = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        two = TcpTransport(TcpConfig(), there)
        os.write(told[1], two.open()["ipc"].encode())
        os.read(asked[0], 1)  # the peer has connected, and does not want anything any more
        os._exit(9)
    addresses[1] = {**addresses[0], "ipc": os.read(told[0], 1000).decode()}
    one.connect(addresses)
    try:
        assert until(lambda: one.reaches(1), one)
        assert one.isend(1, [b"hello"]) is not None
        os.write(asked[1], b"x")
        os.waitpid(child, 0)
        with pytest.raises(NetworkError, match="worker 1 cannot be reached") as caught:
            one.isend(1, [b"anybody"])
        assert caught.value.details == {"left": 1}
    finally:
        one.close(aborted=True)
        for end in (*asked, *told):
            os.close(end)


@pytest.mark.parametrize("then", ["progress", "close"])
def test_that_a_peer_has_closed_is_no_error_of_what_waits_to_leave_with_more(pair, then):
    """It need not have wanted it: credit that is given back at the end of a step, say."""
    one, two, _ = pair
    for _ in range(BEHIND):
        until(lambda: one.isend(1, [b"read or not"]), one)
    held = one.isend(1, [b"with the next ones"])
    assert not held.done
    two.close(aborted=True)
    if then == "close":
        one.close()
    else:
        deadline = time.monotonic() + 30
        while not held.done:
            assert time.monotonic() < deadline
            one.progress()
        with pytest.raises(NetworkError, match="worker 1 cannot be reached") as caught:
            one.isend(1, [b"anybody"])
        assert caught.value.details == {"left": 1}


def test_who_dials_where_no_descriptor_is_left_does_not_wait_for_ever(pair):
    one, _, addresses = pair
    stranger = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stranger.connect(addresses[0]["ipc"])
    first_free = os.dup(stranger.fileno())
    os.close(first_free)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, before[1]))
    try:
        with pytest.raises(ResourceError, match="too few descriptors are left to let in a worker") as caught:
            one.progress()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        stranger.close()
    assert os.strerror(errno.EMFILE) in caught.value.why
    assert "ulimit -n" in caught.value.remedy


def test_a_folder_in_which_no_socket_can_be_made_is_said_with_what_helps(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)

    def listen(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Listener, "__init__", lambda self, path: listen(path))
    with pytest.raises(NetworkError, match="cannot listen") as caught:
        TcpTransport(TcpConfig(), contexts(tmp_path)[0]).open()
    assert os.strerror(errno.ENOSPC) in caught.value.why
    assert 'comm.tcp.same_host = "tcp"' in caught.value.remedy
