"""What ``comm.tcp.zero_copy_bytes`` decides: whether a frame leaves from the caller's memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from twister2.spec.comm import Send
from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.outgoing import Outgoing
from twister2_comm_tcp.wire import Head


class Captured(Send):
    done = True


class Way:
    """Keeps what it is sent."""

    keeps = True

    def __init__(self) -> None:
        self.parts: list[Any] = []

    def send(self, parts: Any) -> Send:
        self.parts += parts
        return Captured()


@pytest.mark.parametrize(("size", "copied"), [(999, True), (1000, False), (1001, False)])
def test_frames_of_that_size_and_more_are_sent_from_the_caller_s_memory(size: int, copied: bool) -> None:
    way = Way()
    dial: Any = SimpleNamespace(failed=False, poll=lambda: way)
    outgoing = Outgoing(
        1,
        TcpConfig(zero_copy_bytes=1000),
        dial,
        lambda kind, peer, sequence: Head(kind, 1, 0, b"s" * 8, sequence, 0, 0),
    )
    assert outgoing.progress()
    data = numpy.zeros(size, numpy.uint8)
    assert outgoing.send([data]) is not None
    shared = [part for part in way.parts if numpy.shares_memory(numpy.frombuffer(part, numpy.uint8), data)]
    assert bool(shared) is not copied
    assert sum(map(len, way.parts)) >= size
