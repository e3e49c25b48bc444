"""Conformance of transports, third part: how they are closed."""

from __future__ import annotations

import os
import signal
import time
from abc import abstractmethod
from typing import TYPE_CHECKING

import pytest

from twister2.spec.errors import NetworkError
from twister2_testkit.capabilities import ConformanceSuite, needs
from twister2_testkit.comm_messages import check_message, clog, frames_of
from twister2_testkit.comm_world import Died

if TYPE_CHECKING:
    from twister2_testkit.comm_world import Rank, World


class CommEndTests(ConformanceSuite):
    """Part of :class:`twister2_testkit.comm.CommSuite`, which runs it."""

    @abstractmethod
    def world(self, size: int, *, close: bool = True) -> World:
        """A world of the transport under test."""

    def test_close_delivers_what_was_sent_before(self) -> None:
        count = 200

        def body(rank: Rank) -> None:
            rank.reach_all()
            rank.sync("up")
            if rank.id == 0:
                for number in range(count):
                    rank.send(1, frames_of(0, number))
                rank.transport.close(deadline_s=10.0)
            else:
                for number in range(count):
                    check_message(rank.receive(), 0, number)
                rank.transport.close(deadline_s=10.0)

        self.world(2, close=False).run(body)

    @pytest.mark.parametrize("aborted", [False, True])
    def test_close_may_be_repeated_and_ends_the_transport(self, aborted: bool) -> None:
        def body(rank: Rank) -> None:
            rank.reach_all()
            rank.sync("up")
            rank.transport.close(aborted=aborted)
            rank.transport.close(aborted=aborted)
            with pytest.raises(NetworkError):
                rank.transport.isend(1 - rank.id, [b"late"])

        self.world(2, close=False).run(body)

    def test_close_of_a_clogged_pair_keeps_its_deadline(self) -> None:
        def body(rank: Rank) -> None:
            rank.reach_all()
            if rank.id == 0:
                clog(rank, 1, bytes(1 << 20), 200)
            rank.sync("clogged")
            begin = time.monotonic()
            rank.transport.close(aborted=True, deadline_s=8.0)
            assert time.monotonic() - begin < 6, "an aborted close waits for nobody"
            rank.sync("closed", progress=False)

        self.world(2, close=False).run(body)

    @needs("processes")
    @pytest.mark.faults
    @pytest.mark.parametrize("aborted", [False, True])
    def test_close_does_not_wait_for_a_killed_peer(self, aborted: bool) -> None:
        def body(rank: Rank) -> float:
            rank.reach_all()
            rank.sync("up")
            if rank.id == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.1)
            begin = time.monotonic()
            try:
                while time.monotonic() - begin < 0.2 and rank.transport.isend(1, [bytes(100_000)]) is not None:
                    pass
            except NetworkError:
                pass
            begin = time.monotonic()
            rank.transport.close(aborted=aborted, deadline_s=8.0 if aborted else 2.0)
            return time.monotonic() - begin

        took, died = self.world(2, close=False).run(body)
        assert died == Died(-signal.SIGKILL)
        assert took < 6, f"close took {took} s"
