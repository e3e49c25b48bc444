"""The transport suite on processes: over Unix sockets, CURVE and plain TCP."""

from __future__ import annotations

import time

from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.plugin import TcpPlugin
from twister2_testkit.comm import CommCapabilities, CommSuite
from twister2_testkit.comm_messages import clog

OPEN = CommCapabilities(
    processes=True,
    wait_fd=True,
    several_attempts=True,
    notices_closed_peers=True,
    over_2_gib=True,
    on_its_own=True,
    why={"allocates": "sockets have no memory of their own that others could read"},
)


class TestIpc(CommSuite):
    capabilities = OPEN
    config = TcpConfig()

    def make_transport(self, context):
        return TcpPlugin().comm_create(config=self.config, context=context)

    def test_a_reader_that_has_begun_with_one_writer_is_fair_to_the_next(self):
        def body(rank):
            rank.reach_all()
            if rank.id == 1:
                clog(rank, 0, bytes(1000), 200_000, least=50)
            rank.sync("one is refused, after 50 messages")
            if rank.id == 0:
                assert [rank.receive().peer for _ in range(5)] == [1] * 5
            rank.sync("some were read", progress=rank.id != 0)
            if rank.id == 2:
                clog(rank, 0, bytes(1000), 200_000, least=50)
            rank.sync("both are refused", progress=False)
            if rank.id == 0:
                # over TCP it may still be on its way; what has come is met within 16 messages of the other
                for turn in range(32):
                    if rank.receive().peer == 2:
                        break
                    time.sleep(min(0.05 * 2 ** (turn - 16), 2.0) if turn >= 16 else 0)
                else:
                    raise AssertionError("nothing of worker 2 is read while worker 1 has more")
                senders = [rank.receive().peer for _ in range(40)]
                assert min(senders.count(1), senders.count(2)) >= 10, f"in turns, not {senders}"
            rank.sync("enough")

        self.world(3, close=False).run(body)


class TestCurve(TestIpc):
    config = TcpConfig(same_host="tcp")


class TestPlain(TestIpc):
    config = TcpConfig(same_host="tcp", plain=True)
