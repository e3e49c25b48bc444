"""Small messages leave at once while the reader keeps up, and together when it is behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twister2.spec.comm import Send
from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.outgoing import BEHIND, ENOUGH_BYTES, ENOUGH_MESSAGES, SMALL, Outgoing
from twister2_comm_tcp.wire import Head, read_head


class _Taken(Send):
    done = True


class Way:
    """Counts what it is sent: the messages in each zmq message."""

    keeps = True

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.sequences: list[int] = []

    def send(self, parts: Any) -> Send:
        head = read_head(parts[0])
        self.counts.append(head.n_messages)
        self.sequences.append(head.sequence)
        return _Taken()


def outgoing() -> tuple[Outgoing, Way]:
    way = Way()
    dial: Any = SimpleNamespace(failed=False, poll=lambda: way)
    made = Outgoing(
        1, TcpConfig(), dial, lambda kind, peer, sequence: Head(kind, 1, 0, b"s" * 8, sequence, 0, 0)
    )  # fmt: skip
    assert made.progress()
    return made, way


def test_a_thousand_small_messages_behind_a_slow_reader_leave_in_a_few() -> None:
    out, way = outgoing()
    sends = [out.send([b"12345678"]) for _ in range(1000)]
    assert None not in sends
    assert way.counts == [*[1] * BEHIND, ENOUGH_MESSAGES]
    assert [send.done for send in sends if send is not None].count(False) == 1000 - sum(way.counts), "who waits goes on"
    assert out.flush()
    assert way.counts == [*[1] * BEHIND, ENOUGH_MESSAGES, 1000 - BEHIND - ENOUGH_MESSAGES]
    assert all(send is not None and send.done for send in sends)
    assert way.sequences == [*range(1, BEHIND + 2), BEHIND + ENOUGH_MESSAGES + 1]


def test_enough_bytes_leave_before_there_are_enough_messages() -> None:
    out, way = outgoing()
    for _ in range(BEHIND + 20):
        out.send([bytes(SMALL)])
    assert way.counts == [*[1] * BEHIND, *[ENOUGH_BYTES // SMALL] * 2]


def test_small_messages_leave_at_once_while_the_reader_keeps_up() -> None:
    out, way = outgoing()
    for number in range(1, 1001):
        out.send([b"12345678"])
        out.acknowledged(number, 8 * number)
    assert way.counts == [1] * 1000


def test_a_large_message_takes_along_what_was_collected_before_it() -> None:
    out, way = outgoing()
    for _ in range(BEHIND + 5):
        out.send([b"12345678"])
    out.send([bytes(SMALL + 1)])
    assert way.counts == [*[1] * BEHIND, 5, 1]
