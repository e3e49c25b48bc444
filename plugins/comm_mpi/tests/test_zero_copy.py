"""What ``comm.mpi.zero_copy_bytes`` decides: whether a frame leaves from the caller's memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from twister2_comm_mpi.config import MpiConfig
from twister2_testkit.comm_world import Rank

from .test_native import world

pytestmark = pytest.mark.needs_mpi


class Comm:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def Isend(self, buffer: Any, peer: int, tag: int) -> Any:
        self.sent.append(buffer[0])
        return SimpleNamespace(Test=lambda: True)


@pytest.mark.parametrize(("size", "copied"), [(999, True), (1000, False), (1001, False)])
def test_frames_of_that_size_and_more_are_sent_from_the_caller_s_memory(size: int, copied: bool) -> None:
    def body(_: Rank) -> None:
        from twister2_comm_mpi.transport import MpiTransport, _Peer

        context: Any = SimpleNamespace(rank=0, size=2)
        transport = MpiTransport(MpiConfig(zero_copy_bytes=1000), context)
        comm = Comm()
        transport._data = lambda: comm  # type: ignore[assignment, method-assign, return-value]
        transport._peers = {1: _Peer()}
        data = numpy.zeros(size, numpy.uint8)
        assert transport.isend(1, [data]) is not None
        shared = [part for part in comm.sent if numpy.shares_memory(numpy.frombuffer(part, numpy.uint8), data)]
        assert bool(shared) is not copied
        assert sum(map(len, comm.sent)) >= size

    world(1).run(body)
