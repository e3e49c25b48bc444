"""Conformance of transports, second part: leases, memory of the transport's own, and messages nobody asks after."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import pytest

from twister2_testkit.capabilities import ConformanceSuite, needs
from twister2_testkit.comm_messages import check_message, clog, frames_of, pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2_testkit.comm_world import Rank, World


class CommMemoryTests(ConformanceSuite):
    """Part of :class:`twister2_testkit.comm.CommSuite`, which runs it."""

    segments: ClassVar[Sequence[str]] = ()
    """As the transport declares them (``facts.segments``): what ranks that are killed may leave is removed."""

    @abstractmethod
    def world(self, size: int, *, close: bool = True) -> World:
        """A world of the transport under test."""

    @pytest.mark.parametrize("size", [40, 3000, 70_000])
    def test_leases_outlive_many_later_messages(self, size: int) -> None:
        """A consumer that keeps some messages stops nobody, and finds them unchanged however much has come since."""
        kept_ones, later = 40, 1500

        def body(rank: Rank) -> None:
            if rank.id == 0:
                for number in range(kept_ones):
                    rank.finish(rank.send(1, [b"%d" % number, pattern(number, size)]))
                for number in range(later):
                    rank.send(1, frames_of(0, number))
                rank.send(1, [b"last"])
                return
            leases = [rank.receive().frames for _ in range(kept_ones)]
            for number in range(later):
                check_message(rank.receive(), 0, number)
                if number == later // 2:
                    del leases[::2]
            for at, (head, frame) in enumerate(leases):
                number = 2 * at + 1
                assert (bytes(head), bytes(frame)) == (b"%d" % number, pattern(number, size)), (
                    f"message {number} has changed"
                )
            leases.clear()
            assert bytes(rank.receive().frames[0]) == b"last"

        self.world(2).run(body)

    @needs("on_its_own")
    def test_sent_messages_arrive_without_another_call(self) -> None:
        """Once all sends are done their writer may compute for as long as it likes: nothing is kept back."""
        count = 300

        def body(rank: Rank) -> None:
            rank.reach_all()
            if rank.id == 0:
                rank.sync("start")
                sends = [rank.send(1, [number.to_bytes(8, "little")]) for number in range(count)]
                for send in sends:
                    rank.finish(send)
                rank.sync("all came", progress=False)
                return
            rank.sync("start")
            for number in range(count):
                assert int.from_bytes(rank.receive().frames[0], "little") == number
            rank.sync("all came")

        self.world(2).run(body)

    @needs("notices_closed_peers")
    def test_an_orderly_close_of_a_clogged_pair_keeps_its_deadline(self) -> None:
        def body(rank: Rank) -> None:
            rank.reach_all()
            if rank.id == 0:
                clog(rank, 1, bytes(1 << 20), 512)
            rank.sync("clogged")
            begin = time.monotonic()
            if rank.id == 0:
                rank.transport.close(deadline_s=1.0)
                assert time.monotonic() - begin < 6, "a close waits no longer than its deadline"
            rank.sync("closed", progress=False)

        self.world(2, close=False).run(body)

    @needs("allocates")
    @pytest.mark.parametrize("size", [1, 5000, (1 << 20) + 3])
    def test_memory_of_the_transport_is_sent_and_given_back(self, size: int) -> None:
        rounds = max(50, (1 << 30) // max(size, 1 << 20))  # in all more than could be held at once

        def body(rank: Rank) -> None:
            rank.reach_all()
            if rank.id == 0:
                for number in range(rounds):
                    memory = rank.transport.allocate(size)
                    assert memory is not None, f"no memory in round {number}, though all before was given back"
                    assert (memory.nbytes, memory.readonly) == (size, False)
                    memory[:] = pattern(number % 50, size)
                    rank.finish(rank.send(1, [b"head", memory]))
                    del memory
            else:
                for number in range(rounds):
                    head, frame = rank.receive().frames
                    assert (bytes(head), bytes(frame)) == (b"head", pattern(number % 50, size)), f"message {number}"
                    del head, frame
            rank.sync("sent")

        self.world(2).run(body)

    @needs("allocates")
    def test_pieces_of_memory_of_the_transport_are_apart(self) -> None:
        def body(rank: Rank) -> None:
            rank.reach_all()
            pieces = [rank.transport.allocate(10_000) for _ in range(16)]
            for number, piece in enumerate(pieces):
                assert piece is not None
                piece[:] = pattern((rank.id, number), 10_000)
            for number, piece in enumerate(pieces):
                assert bytes(piece or b"") == pattern((rank.id, number), 10_000), f"piece {number} was given out twice"
            empty = rank.transport.allocate(0)
            assert empty is None or empty.nbytes == 0
            rank.sync("filled")

        self.world(2).run(body)

    def test_the_state_of_a_way_is_words_and_changes_nothing(self) -> None:
        def body(rank: Rank) -> list[str]:
            told = [rank.transport.state(peer) for peer in rank.others]
            rank.reach_all()
            for number in range(3):
                for peer in rank.others:
                    rank.finish(rank.send(peer, [f"{number}".encode(), bytes(1000 * number)]))
                told += [rank.transport.state(peer) for peer in rank.others]
                for _ in rank.others:
                    head, frame = rank.receive().frames
                    assert (bytes(head), len(frame)) == (f"{number}".encode(), 1000 * number)
                told += [rank.transport.state(peer) for peer in rank.others]
                rank.sync(f"read {number}")
            return told

        for told in self.world(3).run(body):
            assert all(type(text) is str and "\n" not in text for text in told), told
