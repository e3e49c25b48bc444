"""What ``comm.mpi.window_messages`` and ``window_bytes`` decide: how much may be under way to a peer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from twister2_comm_mpi.config import MpiConfig
from twister2_testkit.comm_world import Rank

from .test_native import world

pytestmark = pytest.mark.needs_mpi


@pytest.mark.parametrize(
    ("options", "size", "fit"),
    [
        ({"window_messages": 8}, 1, 8),
        ({"window_messages": 100, "window_bytes": 64 << 10}, 16 << 10, 4),
        ({"window_messages": 8, "window_bytes": 1 << 30}, 16 << 10, 8),
    ],
)
def test_a_peer_that_acknowledges_nothing_is_sent_no_more_than_its_window(options: Any, size: int, fit: int) -> None:
    def body(_: Rank) -> None:
        from twister2_comm_mpi.transport import MpiTransport, _Peer

        context: Any = SimpleNamespace(rank=0, size=2)
        transport = MpiTransport(MpiConfig(**options), context)
        comm = SimpleNamespace(Isend=lambda buffer, peer, tag: SimpleNamespace(Test=lambda: True))
        transport._data = lambda: comm  # type: ignore[assignment, method-assign, return-value]
        transport.progress = lambda: False  # type: ignore[method-assign]
        transport._peers = {1: _Peer()}
        sent = 0
        while transport.isend(1, [bytes(size)]) is not None:
            sent += 1
            assert sent <= fit
        assert sent == fit
        transport._peers[1].acked = (1, size)  # it has read one: there is room for another
        assert transport.isend(1, [bytes(size)]) is not None
        assert transport.isend(1, [bytes(size)]) is None

    world(1).run(body)
