"""Who is not let in, what is dropped, and what is an error."""

from __future__ import annotations

import threading
import time

import attrs
import pytest
import zmq

from twister2.spec.comm import TransportContext
from twister2.spec.environment import NodeFacts
from twister2.spec.errors import NetworkError
from twister2.spec.transports import session_id
from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.transport import TcpTransport
from twister2_comm_tcp.wire import Head, Kind, pack

PLAIN = TcpConfig(same_host="tcp", plain=True)
CURVE = TcpConfig(same_host="tcp")


def contexts(folder, count=2):
    pairs = [tuple(key.decode() for key in zmq.curve_keypair()) for _ in range(count)]
    return [
        TransportContext(
            job_id="job",
            attempt=3,
            rank=rank,
            size=count,
            node=NodeFacts("host"),
            runtime_dir=str(folder),
            session="session",
            curve_public=public,
            curve_secret=secret,
            peer_keys={number: pair[0] for number, pair in enumerate(pairs)},
            aborted=lambda: False,
        )
        for rank, (public, secret) in enumerate(pairs)
    ]


def start(config, *all_contexts):
    transports = [TcpTransport(config, context) for context in all_contexts]
    addresses = {context.rank: made.open() for context, made in zip(all_contexts, transports, strict=True)}
    for made in transports:
        made.connect(addresses)
    return transports, addresses


def until(ask, *transports, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while (answer := ask()) is None or answer is False:
        assert time.monotonic() < deadline
        for transport in transports:
            transport.progress()
        time.sleep(0.001)
    return answer


@pytest.fixture
def reader(tmp_path):
    """A transport on plain TCP, and a socket of a stranger who has dialled it."""
    (made,), addresses = start(PLAIN, contexts(tmp_path)[0])
    context = zmq.Context()
    stranger = context.socket(zmq.PUSH)
    stranger.linger = 0
    stranger.connect(f"tcp://127.0.0.1:{addresses[0]['port']}")
    yield made, stranger
    stranger.close()
    context.term()
    made.close()


def message(sequence=1, attempt=3, session="session", kind=Kind.DATA, frames=(b"data",)):
    return pack(Head(kind, attempt, 1, session_id("job", session, size=8), sequence, 0, 0), frames, 1 << 16)


@pytest.mark.parametrize(
    "parts",
    [[b"GET / HTTP/1.1"], [b""], [bytes(200), b"x"], message(attempt=2), message(session="other")],
    ids=["http", "empty", "zeros", "old attempt", "other session"],
)
def test_what_is_not_for_us_is_dropped_and_counted(reader, parts):
    made, stranger = reader
    stranger.send_multipart(parts)
    stranger.send_multipart(message())
    received = until(made.receive, made)
    assert [bytes(frame) for frame in received.frames] == [b"data"]
    assert made.dropped == 1


@pytest.mark.parametrize(
    "parts",
    [
        [message()[0][:-3]],
        [message()[0] + b"more"],
        [*message(), b"more"],
        message(frames=(bytes(70_000),))[:1],
        [message(frames=(bytes(70_000),))[0], bytes(69_999)],
        pack(Head(Kind.DATA, 3, 99, session_id("job", "session", size=8), 1, 0, 0), (), 1),
    ],
)
def test_a_damaged_message_is_an_error(reader, parts):
    made, stranger = reader
    stranger.send_multipart(parts)
    with pytest.raises(NetworkError, match="damaged"):
        until(made.receive, made)


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.SYNC, Kind.BYE])
def test_lost_messages_are_an_error_that_names_them(reader, kind):
    made, stranger = reader
    stranger.send_multipart(message(1))
    until(made.receive, made)  # before the other is sent: what is taken in at once with it may end in its error
    stranger.send_multipart(message(5 if kind is Kind.DATA else 4, kind=kind))
    with pytest.raises(NetworkError, match="messages 2 to 4 from worker 1 were lost"):
        until(made.receive, made)


def test_a_message_that_comes_twice_is_delivered_once(reader):
    made, stranger = reader
    for sequence in (1, 1, 2):
        stranger.send_multipart(message(sequence, frames=(b"%d" % sequence,)))
    got = [bytes(until(made.receive, made).frames[0]) for _ in range(2)]
    assert got == [b"1", b"2"]
    assert made.dropped == 1


def test_a_key_that_is_not_in_the_table_is_not_let_in(tmp_path):
    one, two = contexts(tmp_path)
    public, secret = (key.decode() for key in zmq.curve_keypair())
    intruder = attrs.evolve(two, curve_public=public, curve_secret=secret)
    (reader, writer), _ = start(CURVE, one, intruder)
    try:
        settled = until(lambda: {True: "in", False: "out"}.get(writer.reaches(0)), writer, reader)
        assert settled == "out"
        with pytest.raises(NetworkError, match="key"):
            writer.isend(0, [b"let me in"])
        assert reader.receive() is None
    finally:
        writer.close()
        reader.close()


def test_close_waits_for_no_socket_that_an_error_holds(tmp_path):
    one, two = contexts(tmp_path)
    (reader, writer), _ = start(CURVE, one, attrs.evolve(two, peer_keys={1: two.peer_keys[1]}))
    with pytest.raises(NetworkError, match="no key of worker 0") as caught:
        until(lambda: writer.reaches(0), writer)
    closing = threading.Thread(target=writer.close, kwargs={"aborted": True}, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive(), "libzmq waits for a socket that nobody closes"
    assert caught.value.__traceback__ is not None, "which holds all that was under way"
    reader.close()


def test_another_server_at_the_address_is_not_trusted(tmp_path):
    one, two = contexts(tmp_path)
    other_public, other_secret = (key.decode() for key in zmq.curve_keypair())
    impostor = attrs.evolve(one, curve_public=other_public, curve_secret=other_secret)
    (reader, writer), _ = start(CURVE, impostor, two)
    try:
        settled = until(lambda: {True: "in", False: "out"}.get(writer.reaches(0)), writer, reader)
        assert settled == "out"
    finally:
        writer.close()
        reader.close()


def test_a_peer_that_has_several_addresses_is_reached_by_the_one_that_answers(tmp_path):
    one, two = contexts(tmp_path)
    (reader, writer), addresses = start(CURVE, one, two)
    try:
        # 192.0.2.0/24 is reserved for documentation: nobody answers there
        writer.connect({**addresses, 0: {**addresses[0], "tcp": ["192.0.2.1", *addresses[0]["tcp"]]}})
        assert until(lambda: writer.reaches(0), writer, reader)
        writer.isend(0, [b"x"])
        assert until(reader.receive, reader).peer == 1
    finally:
        writer.close()
        reader.close()
