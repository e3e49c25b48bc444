"""Conformance of transports: what every ``twister2.comm`` plugin must do, whatever moves its bytes.

A plugin's tests subclass :class:`CommSuite`::

    class TestTcp(CommSuite):
        capabilities = CommCapabilities(processes=True, wait_fd=True, ...)
        def make_transport(self, context):
            return TcpPlugin().comm_create(config=TcpConfig(), context=context)
"""

from __future__ import annotations

import array
import resource
import select
import statistics
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import attrs
import pytest

from twister2.spec.errors import NetworkError
from twister2_testkit.capabilities import Capabilities, needs
from twister2_testkit.comm_ends import CommEndTests
from twister2_testkit.comm_memory import CommMemoryTests
from twister2_testkit.comm_messages import check_message, clog, frames_of, pattern, trade
from twister2_testkit.comm_world import Rank, Services, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.batch import Buffer
    from twister2.spec.comm import Received, Transport, TransportContext

SIZES = (0, 1, 7, 8, 4095, 65535, 65536, 65537, (1 << 20) + 1, (64 << 20) + 3)


@attrs.frozen(kw_only=True)
class CommCapabilities(Capabilities):
    """What a transport can do beyond the contract's core.

    :ivar processes: connects processes; the suite then runs every rank in one, else in a thread.
    :ivar wait_fd: has a descriptor to wait on.
    :ivar several_attempts: transports of two attempts can be open in one place, and must not meet.
    :ivar notices_closed_peers: ``reaches`` and, in time, ``isend`` tell that a peer has closed.
    :ivar over_2_gib: takes messages beyond 2 GiB (every transport should).
    :ivar on_its_own: what was sent arrives without further calls of its writer.
    :ivar allocates: ``allocate`` gives memory that is sent without a copy.
    """

    processes: bool = False
    wait_fd: bool = False
    several_attempts: bool = False
    notices_closed_peers: bool = False
    over_2_gib: bool = False
    on_its_own: bool = False
    allocates: bool = False


class CommSuite(CommMemoryTests, CommEndTests):
    """Tests of the transport contract. Override :meth:`make_transport`."""

    capabilities: ClassVar[CommCapabilities] = CommCapabilities()
    under_way_limit: ClassVar[int] = 256 << 20
    """Bytes that a writer may hand over before it is refused by a reader who does not read."""

    @abstractmethod
    def make_transport(self, context: TransportContext) -> Transport:
        """The transport of one rank. Called in the rank's own process or thread."""

    def make_services(self, size: int) -> Services | None:
        """What a world needs beside its processes (an MPI transport: its process manager)."""
        return None

    def world(self, size: int, *, close: bool = True, make: Callable[..., Transport] | None = None) -> World:
        """A world of this plugin's transports."""
        return World(
            size,
            make or self.make_transport,
            processes=self.capabilities.processes,
            timeout_s=self.timeout_s,
            services=self.make_services,
            close=close,
            segments=self.segments,
        )

    # -- messages ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", SIZES)
    def test_a_frame_of_any_size_arrives_as_sent(self, size: int) -> None:
        def body(rank: Rank) -> None:
            rank.reach_all()
            data = pattern(("size", size), size)
            if rank.id == 0:
                rank.finish(rank.send(1, [data]))
            else:
                (frame,) = rank.receive().frames
                assert frame.nbytes == size
                assert frame.readonly
                assert frame == data

        self.world(2).run(body)

    def test_frames_keep_their_number_order_and_lengths(self) -> None:
        messages: list[list[Buffer]] = [
            [b""],
            [b"", b"a", b""],
            [pattern(number, number * 37) for number in range(100)],
            [b"x" * 70_000, b"", b"y", b"z" * 70_000],
            [memoryview(array.array("d", [1.5, 2.5])), bytearray(b"abc"), memoryview(b"012345")[2:4]],
        ]

        def body(rank: Rank) -> None:
            for frames in messages:
                if rank.id == 0:
                    rank.send(1, frames)
                else:
                    assert [bytes(frame) for frame in rank.receive().frames] == [bytes(frame) for frame in frames]

        self.world(2).run(body)

    def test_every_pair_keeps_order_and_delivers_exactly_once(self) -> None:
        def body(rank: Rank) -> None:
            trade(rank, dict.fromkeys(rank.others, 240), dict.fromkeys(rank.others, 240))
            rank.sync("all got theirs")
            rank.quiet()

        self.world(3).run(body)

    def test_many_small_messages_arrive(self) -> None:
        count = 10_000

        def body(rank: Rank) -> None:
            if rank.id == 0:
                for number in range(count):
                    rank.send(1, [number.to_bytes(8, "little")])
            else:
                for number in range(count):
                    (frame,) = rank.receive().frames
                    assert int.from_bytes(frame, "little") == number

        self.world(2).run(body)

    def test_a_reader_is_fair_between_its_writers(self) -> None:
        def body(rank: Rank) -> None:
            rank.reach_all()
            if rank.id == 0:
                rank.sync("both are refused, after 40 messages each")
                senders = [rank.receive().peer for _ in range(40)]
                assert min(senders.count(1), senders.count(2)) >= 10, f"in turns, not {senders}"
                rank.sync("enough")
                return
            clog(rank, 0, bytes(1000), 200_000, least=40)
            rank.sync("both are refused, after 40 messages each")
            rank.sync("enough")

        self.world(3, close=False).run(body)

    def test_a_newcomer_has_its_turn(self) -> None:
        """A reader that always has something to read from one writer looks for others all the same."""

        def body(rank: Rank) -> None:
            rank.reach_all()
            if rank.id == 1:
                clog(rank, 0, bytes(1000), 200_000, least=40)
            rank.sync("one is refused, after 40 messages")
            if rank.id == 0:
                assert {rank.receive().peer for _ in range(5)} == {1}
            rank.sync("five were read", progress=rank.id != 0)
            if rank.id == 1:
                clog(rank, 0, bytes(1000), 200_000)
            rank.sync("one is refused again", progress=rank.id != 0)
            new = rank.send(0, [b"new"]) if rank.id == 2 else None
            give_up, word = time.monotonic() + rank.timeout_s, b""
            while word != b"enough":  # ten at a time, and then the one fills its place again: it never runs dry
                if rank.id == 0:
                    word = b"enough" if 2 in [rank.receive().peer for _ in range(10)] else b"more"
                    assert word == b"enough" or time.monotonic() < give_up, "a message of the newcomer is given, too"
                    for peer in (1, 2):
                        rank.finish(rank.send(peer, [word]))
                else:
                    word = bytes(rank.until(lambda: ask(rank), "a word").frames[0])
                if rank.id == 1:
                    clog(rank, 0, bytes(1000), 200_000)
                rank.sync("filled", progress=rank.id != 0)
            if new is not None:
                rank.finish(new)
            rank.sync("the end")

        def ask(rank: Rank) -> Received | None:
            if rank.id == 1:
                rank.transport.isend(0, [bytes(1000)])
            return rank.transport.receive()

        self.world(3, close=False).run(body)

    # -- memory --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [8, 5000, 300_000])
    def test_a_buffer_may_be_used_again_once_its_send_is_done(self, size: int) -> None:
        rounds = 30

        def body(rank: Rank) -> None:
            buffer = bytearray(size)
            for number in range(rounds):
                if rank.id == 0:
                    buffer[:] = pattern(number, size)
                    send = rank.send(1, [buffer])
                    if not rank.transport.facts.copies_on_send:
                        rank.finish(send)
                else:
                    (frame,) = rank.receive().frames
                    assert frame == pattern(number, size), f"message {number} was changed after it was sent"
            if rank.id == 0:
                buffer[:] = bytes(size)
            rank.sync("sent")

        def lazy(rank: Rank) -> None:
            if rank.id == 0:
                buffer = bytearray(pattern("before", size))
                send = rank.send(1, [buffer])
                if rank.transport.facts.copies_on_send or send.done:
                    buffer[:] = bytes(size)
                    rank.sync("changed")
                else:
                    rank.sync("changed")
                    rank.finish(send)
            else:
                rank.sync("changed")
                assert rank.receive().frames[0] == pattern("before", size), "it was changed before it was read"
            rank.sync("read")

        self.world(2).run(body)
        self.world(2).run(lazy)

    def test_received_frames_stay_as_they_are_while_a_view_lives(self) -> None:
        count, size = 60, 100_000

        def body(rank: Rank) -> None:
            if rank.id == 0:
                for number in range(count):
                    rank.finish(rank.send(1, [pattern(number, size)]))
                return
            kept = []
            for number in range(count):
                (frame,) = rank.receive().frames
                with pytest.raises(TypeError):
                    frame[0] = 1
                if number % 2:
                    kept.append((number, frame[10:]))
            for number, view in kept:
                assert view == pattern(number, size)[10:], f"the view of message {number} has changed"

        self.world(2).run(body)

    # -- back-pressure -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [8, 64 << 10, 1 << 20])
    def test_a_reader_that_does_not_read_stops_its_own_writers_only(self, size: int) -> None:
        payload = pattern("clog", size)
        limit = min(self.under_way_limit // size, 200_000)

        def others(rank: Rank) -> None:
            rank.reach_all()
            if rank.id == 1:
                clog(rank, 0, payload, limit)
            rank.sync("clogged")
            if rank.id == 0:  # does not read, but writes
                trade(rank, {2: 60}, {})
            elif rank.id == 1:  # is refused by one, not by the other
                trade(rank, {2: 60}, {2: 60})
            else:
                trade(rank, {1: 60}, {0: 60, 1: 60})
            rank.sync("others went on")

        def drained(rank: Rank) -> None:
            rank.reach_all()
            if rank.id == 1:
                clog(rank, 0, payload, limit)
                rank.sync("clogged")
                rank.send(0, [b"last", b""])
                return
            rank.sync("clogged")
            number = 0
            while bytes((received := rank.receive()).frames[0]) != b"last":
                assert bytes(received.frames[0]) == b"%d" % number, "a refused message was taken, or one was lost"
                assert received.frames[1] == payload
                number += 1

        self.world(2).run(drained)
        self.world(3, close=False).run(others)

    def test_progress_never_blocks(self) -> None:
        def body(rank: Rank) -> None:
            rank.reach_all()
            rank.sync("start")
            waited = []
            for _ in range(300):
                begin, before = time.monotonic(), _waits()
                rank.transport.progress()
                rank.transport.receive()
                # on a machine with much else to do any call takes long, but only who sleeps gives the processor away
                waited.append(time.monotonic() - begin if _waits() > before else 0.0)
            assert statistics.median(waited) <= 0.001, f"an idle progress waits for {statistics.median(waited)} s"
            rank.sync("idle")

        self.world(2).run(body)

    @needs("wait_fd")
    def test_the_descriptor_wakes_a_sleeper_for_every_message(self) -> None:
        rounds = 50

        def body(rank: Rank) -> None:
            rank.reach_all()
            rank.sync("start")
            if rank.id == 0:
                for number in range(rounds):
                    time.sleep(0.002)
                    rank.send(1, frames_of(0, number))
                rank.sync("sent")
                return
            descriptor = rank.transport.wait_fd()
            assert descriptor is not None, "wait_fd is open in the capabilities"
            number = 0
            while number < rounds:
                received = rank.transport.receive()
                if received is not None:
                    check_message(received, 0, number)
                    number += 1
                elif not rank.transport.progress():
                    assert _readable(descriptor, rank.timeout_s), f"no wake-up for message {number}"
            rank.sync("sent")
            wakes, end = 0, time.monotonic() + 0.3
            while time.monotonic() < end:
                wakes += _readable(descriptor, 0.05)
                while rank.transport.receive() or rank.transport.progress():
                    pass
            assert wakes < 30, "the descriptor stays readable with nothing to read"

        self.world(2).run(body)

    @needs("wait_fd")
    def test_the_descriptor_wakes_a_writer_that_waits_for_room(self) -> None:
        payload = pattern("room", 64 << 10)

        def body(rank: Rank) -> None:
            rank.reach_all()
            for _ in range(3):
                if rank.id == 0:
                    clog(rank, 1, payload, self.under_way_limit // len(payload))
                    while offer(rank) or rank.transport.progress():
                        pass
                rank.sync("one is refused, and nothing moves", progress=False)
                if rank.id == 0:
                    wait_for_room(rank)
                    rank.send(1, [b"last"])
                else:
                    while bytes(rank.receive().frames[0]) != b"last":
                        pass
                rank.sync("read")

        def wait_for_room(rank: Rank) -> None:
            descriptor = rank.transport.wait_fd()
            assert descriptor is not None, "wait_fd is open in the capabilities"
            while True:
                assert _readable(descriptor, rank.timeout_s), "the reader reads, and a writer that waits is not woken"
                while not (taken := offer(rank)) and rank.transport.progress():
                    pass
                if taken:
                    return

        def offer(rank: Rank) -> bool:
            return rank.transport.isend(1, [b"more", payload]) is not None

        self.world(2).run(body)

    # -- peers ---------------------------------------------------------------------------------------------------------

    def test_a_peer_that_waits_for_others_is_still_reached(self) -> None:
        """A worker that has all its answers calls its transport no more until everybody has theirs."""

        def body(rank: Rank) -> None:
            if rank.id != 0:
                time.sleep(0.3)
            begin = time.monotonic()
            rank.reach_all()
            assert time.monotonic() - begin < 15, "a probe settles within 10 s"
            rank.sync("reached", progress=False)

        self.world(3).run(body)

    @needs("notices_closed_peers")
    def test_a_closed_peer_is_noticed(self) -> None:
        def body(rank: Rank) -> None:
            if rank.id == 1:
                rank.transport.close()
                rank.sync("closed", progress=False)
                return
            rank.sync("closed")
            begin = time.monotonic()
            assert rank.until(lambda: rank.transport.reaches(1), "knowing whether 1 is reached") is False
            assert time.monotonic() - begin < 15, "a probe settles within 10 s"
            with pytest.raises(NetworkError, match="worker 1"):
                rank.transport.isend(1, [b"x"])

        self.world(2, close=False).run(body)

    # -- attempts ------------------------------------------------------------------------------------------------------

    @needs("several_attempts")
    def test_a_process_of_an_old_attempt_is_refused(self) -> None:
        def make(context: TransportContext) -> Transport:
            # rank 2 is rank 0 of the attempt before: it wakes up late and knows all addresses of the new one
            stale = context.rank == 2
            return self.make_transport(attrs.evolve(context, rank=0 if stale else context.rank, attempt=2 - stale))

        def body(rank: Rank) -> None:
            if rank.id == 2:
                end = time.monotonic() + 0.5
                try:
                    while time.monotonic() < end:
                        rank.transport.isend(1, [b"from the past"])
                        rank.transport.progress()
                        time.sleep(0.01)
                except NetworkError:
                    pass
            elif rank.id == 0:
                rank.send(1, [b"new"])
            else:
                received = rank.receive()
                assert (received.peer, bytes(received.frames[0])) == (0, b"new")
            rank.sync("sent")
            if rank.id == 1:
                rank.quiet(0.2)

        self.world(3, make=make).run(body)

    @needs("over_2_gib")
    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_a_message_beyond_2_gib_arrives(self) -> None:
        size = (2 << 30) + 17

        def body(rank: Rank) -> None:
            if rank.id == 0:
                data = bytearray(size)
                data[-4:] = b"tail"
                rank.finish(rank.send(1, [b"head", data]))
            else:
                head, frame = rank.receive().frames
                assert (bytes(head), frame.nbytes, bytes(frame[-4:])) == (b"head", size, b"tail")
            rank.sync("received")

        world = self.world(2)
        world.timeout_s = max(120.0, self.timeout_s)
        world.run(body)


def _waits() -> int:
    """How often this thread has waited in the kernel."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _readable(descriptor: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))
