"""Leases, blocks and memory for programs: what is mapped, what is copied, and when it is given back."""

from __future__ import annotations

import gc
import os
import random
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.fence import full, publish
from twister2_comm_shm.arena import SMALLEST, Arena
from twister2_comm_shm.home import as_words
from twister2_comm_shm.ring import RingReader, RingWriter, words
from twister2_comm_shm.segment import Segment
from twister2_testkit.comm_messages import pattern


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 1 << 18)), max_size=80))
@settings(max_examples=80, deadline=None)
def test_blocks_of_an_arena_never_overlap_and_come_back(actions):
    order = 19
    arena, taken = Arena(order), {}
    for takes, size in actions:
        if takes:
            place = arena.take(size)
            if place >= 0:
                end = place + max(size, 1 << SMALLEST)
                assert 0 <= place < end <= 1 << order
                assert all(end <= other or place >= other_end for other, other_end in taken.items())
                taken[place] = end
        elif taken:
            place = random.Random(size).choice(sorted(taken))
            del taken[place]
            arena.give_back(place)
    for place in taken:
        arena.give_back(place)
    assert arena.take(1 << order) == 0, "free blocks join again"


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=200))
@settings(max_examples=80, deadline=None)
def test_a_ring_gives_back_what_was_put_in_order(actions):
    ring, home = Segment(4096, "/tmp"), Segment(4096, "/tmp")
    cells = as_words(home.map)
    try:
        writer = RingWriter(ring.map, cells, cells, tail_at=0, head_at=1)
        reader = RingReader(ring.map, cells, 1)
        sent, got = [], 0
        for size, reads in actions:
            record = words(size + 1).pack(8 * size + 8, *range(len(sent), len(sent) + size))
            if writer.room(len(record)):
                writer.put(record)
                sent.append(record)
            if reads:
                reader.tail = cells[0]
                record = reader.get()
                assert (record is None) == (got == len(sent))
                if record is not None:
                    assert record == sent[got]
                    got += 1
        reader.tail = cells[0]
        while (record := reader.get()) is not None:
            assert record == sent[got]
            got += 1
        assert got == len(sent)
        assert writer.taken
    finally:
        cells.release()
        ring.close()
        home.close()


def test_fences_can_be_called():
    full()
    publish()


def test_what_a_program_allocated_is_sent_without_a_copy(make_world):
    def body(rank):
        rank.reach_all()
        if rank.id == 0:
            memory = rank.transport.allocate(1 << 20)
            array = np.frombuffer(memory, np.uint8)
            array[:] = 1
            rank.send(1, [b"head", array[1000:500_000]])
            rank.sync("received")
            array[:] = 2  # not allowed to programs; shows here that it is the same memory
            rank.sync("changed")
        else:
            _, frame = rank.receive().frames
            assert bytes(frame) == b"\1" * 499_000
            rank.sync("received")
            rank.sync("changed")
            assert bytes(frame) == b"\2" * 499_000
        rank.sync("seen")

    make_world(2).run(body)


def test_allocated_memory_is_used_again_once_nobody_looks_at_it(make_world):
    def body(rank):
        rank.reach_all()
        pool = rank.transport._pool
        if rank.id == 0:
            memory = rank.transport.allocate(1 << 20)
            first = np.frombuffer(memory, np.uint8).ctypes.data
            rank.send(1, [memory])
            del memory
            gc.collect()
            other = rank.transport.allocate(1 << 20)
            assert np.frombuffer(other, np.uint8).ctypes.data != first, "its receiver still holds it"
            rank.sync("held")
            rank.sync("let go")
            rank.transport._peers[1].out.sweep()
            again = rank.transport.allocate(1 << 20)
            assert np.frombuffer(again, np.uint8).ctypes.data == first
            assert len(pool.segments) == 1
        else:
            received = rank.receive()
            rank.sync("held")
            del received
            gc.collect()
            rank.sync("let go")
        rank.sync("end of test")

    make_world(2).run(body)


def test_large_memory_for_programs_goes_back_to_the_system(make_world):
    def body(rank):
        rank.reach_all()
        pool = rank.transport._pool
        if rank.id == 0:
            for _ in range(6):
                memory = rank.transport.allocate(6 << 20)
                rank.send(1, [memory])
                del memory
                rank.sync("sent")
                rank.sync("received")
                rank.transport._peers[1].out.sweep()
                rank.transport.allocate(1)  # takes note of what died
            assert sum(segment.size for segment in pool.segments.values()) <= 16 << 20
            rank.send(1, [b"last"])
        else:
            for _ in range(6):
                rank.sync("sent")
                received = rank.receive()
                assert received.frames[0].nbytes == 6 << 20
                del received
                rank.sync("received")
            assert bytes(rank.receive().frames[0]) == b"last"
            assert len(rank.transport._peers[0].segments) <= 2, "what the sender dropped is unmapped"
        rank.sync("end of test")

    make_world(2, pool_bytes=8 << 20).run(body)


def test_large_memory_that_was_never_sent_goes_back_too(make_world):
    def body(rank):
        pool = rank.transport._pool
        for _ in range(20):
            memory = rank.transport.allocate(4 << 20)
            memory[0] = 1
            del memory
        assert sum(segment.size for segment in pool.segments.values()) <= 16 << 20

    make_world(2, pool_bytes=8 << 20).run(body)


def test_a_forked_process_gives_back_nothing(make_world):
    def body(rank):
        rank.reach_all()
        if rank.id == 0:
            rank.send(1, [pattern(1, 200_000)])
            rank.sync("forked and let go")
            held = rank.transport._peers[1].out._held
            assert [rank.transport._slots.held(slot) for slot, _ in held] == [1]
            rank.sync("looked")
        else:
            received = rank.receive()
            child = os.fork()
            if not child:
                del received
                os._exit(0)
            os.waitpid(child, 0)
            rank.sync("forked and let go")
            rank.sync("looked")
            assert bytes(received.frames[0]) == pattern(1, 200_000)

    make_world(2).run(body)


def test_leases_outlive_messages_transports_and_their_sender(make_world):
    def body(rank):
        rank.reach_all()
        kept = []
        for number in range(40):
            if rank.id == 0:
                rank.send(1, [pattern(number, 200_000)])
            else:
                (frame,) = rank.receive().frames
                kept.append((number, frame[7:]))
        rank.sync("all sent")
        if rank.id == 0:
            rank.transport.close()
        rank.sync("sender closed", progress=False)
        if rank.id == 1:
            assert all(view == pattern(number, 200_000)[7:] for number, view in kept)
            rank.transport.close()
            assert all(view == pattern(number, 200_000)[7:] for number, view in kept)
            kept.clear()
            gc.collect()

    make_world(2, close=False).run(body)


def test_what_a_receiver_holds_stays_as_it_is_after_it_has_closed(make_world):
    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        transport = rank.transport
        if rank.id == 0:
            rank.send(1, [pattern(1, 200_000)])
            rank.sync("sent")
            rank.sync("closed")
            until = time.monotonic() + 20
            while transport._peers[1].out is not None:
                transport.progress()
                assert time.monotonic() < until
            for number in range(50):
                rank.send(2, [pattern(2 + number, 200_000)])
            rank.sync("used again")
            rank.sync("let go")
            until = time.monotonic() + 20
            while transport._parted:
                transport.progress()
                assert time.monotonic() < until
        elif rank.id == 1:
            received = rank.receive()
            rank.sync("sent")
            transport.close()
            rank.sync("closed", progress=False)
            rank.sync("used again", progress=False)
            assert bytes(received.frames[0]) == pattern(1, 200_000)
            del received
            rank.sync("let go", progress=False)
        else:
            rank.sync("sent")
            rank.sync("closed")
            for number in range(50):
                assert bytes(rank.receive().frames[0]) == pattern(2 + number, 200_000)
            rank.sync("used again")
            rank.sync("let go")
        rank.sync("end of test", progress=rank.id != 1)

    make_world(3, close=False).run(body)


def test_a_receiver_that_keeps_everything_stops_nobody(make_world):
    """Leases beyond its share are copies: the sender always gets its blocks back."""
    count, size = 60, 300_000

    def body(rank):
        rank.reach_all()
        if rank.id == 0:
            for number in range(count):
                rank.send(1, [pattern(number, size)])
        else:
            kept = [rank.receive().frames[0] for _ in range(count)]
            assert all(frame == pattern(number, size) for number, frame in enumerate(kept))
            assert 0 < len(rank.transport._peers[0].incoming.leases) < 10
        rank.sync("end of test")

    make_world(2, pool_bytes=4 << 20).run(body)


def test_a_receiver_that_keeps_many_frames_stops_nobody(make_world):
    """Frames with a receiver are bounded in number too."""
    count, size = 5000, 16_384

    def body(rank):
        rank.reach_all()
        if rank.id == 0:
            for number in range(count):
                rank.send(1, [number.to_bytes(8, "little") + bytes(size - 8)])
        else:
            kept = [rank.receive().frames[0] for _ in range(count)]
            assert [int.from_bytes(frame[:8], "little") for frame in kept] == list(range(count))
            assert 0 < len(rank.transport._peers[0].incoming.leases) < count // 2
        rank.sync("end of test")

    make_world(2).run(body)


def test_a_reader_that_does_not_read_stops_nobody_else(make_world):
    size = 16_384

    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        if rank.id == 0:
            while rank.transport.isend(1, [bytes(size)]) is not None:
                pass
            rank.send(2, [bytes(size)])
        elif rank.id == 2:
            assert rank.receive().frames[0].nbytes == size
        rank.sync("end of test", progress=rank.id != 1)

    # all the bytes that small frames can take, so that their number alone stops them
    make_world(3, pool_bytes=256 << 20).run(body)


def test_a_message_of_more_frames_than_can_be_counted(make_world):
    count, size = 5000, 16_384

    def body(rank):
        rank.reach_all()
        for _ in range(2):
            if rank.id == 0:
                rank.send(1, [number.to_bytes(8, "little") * (size // 8) for number in range(count)])
            else:
                received = rank.receive()
                assert len(received.frames) == count
                assert all(
                    frame == number.to_bytes(8, "little") * (size // 8) for number, frame in enumerate(received.frames)
                )
        rank.sync("end of test")

    make_world(2).run(body)


def test_random_sizes_between_four_workers_on_any_number_of_cores(make_world):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    count = 150

    def sizes(sender, receiver):
        chance = random.Random(seed + 7 * sender + receiver)
        return [
            [chance.choice((0, 1, 100, 16_383, 16_384, 16_385, 70_000, 900_000)) for _ in range(chance.randint(1, 4))]
            for _ in range(count)
        ]

    def body(rank):
        rank.reach_all()
        outgoing = {peer: sizes(rank.id, peer) for peer in rank.others}
        expected = {peer: sizes(peer, rank.id) for peer in rank.others}
        sent, got = dict.fromkeys(rank.others, 0), dict.fromkeys(rank.others, 0)
        kept, chance = [], random.Random(seed + rank.id)

        def step():
            for peer in rank.others:
                at = sent[peer]
                if at < count:
                    frames = [pattern((rank.id, at), size) for size in outgoing[peer][at]]
                    if rank.transport.isend(peer, frames) is not None:
                        sent[peer] += 1
            received = rank.transport.receive()
            if received is not None:
                peer, at = received.peer, got[received.peer]
                assert [frame.nbytes for frame in received.frames] == expected[peer][at]
                assert all(frame == pattern((peer, at), frame.nbytes) for frame in received.frames)
                got[peer] += 1
                if chance.random() < 0.2:
                    kept.append((peer, at, received))
            return True if min(sent.values()) == min(got.values()) == count else None

        rank.until(step, "all messages")
        for peer, at, received in kept:
            assert all(frame == pattern((peer, at), frame.nbytes) for frame in received.frames)
        rank.sync("end of test")

    make_world(4, timeout_s=60.0, pool_bytes=8 << 20).run(body)
