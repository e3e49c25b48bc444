from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import NetworkError
from twister2.worker.network import wire

word = st.integers(0, (1 << 32) - 1)
long = st.integers(0, (1 << 64) - 1)
byte = st.integers(0, 255)
fields = st.tuples(byte, byte, word, word, long, long, word, word, word, long, long)
NAMES = (
    "kind", "encoding", "attempt", "group", "step", "fingerprint", "edge", "source", "target", "sequence", "n_records"
)  # fmt: skip


def views(frames):
    return [memoryview(bytes(frame)) for frame in frames]


@given(fields, st.binary(max_size=50), st.binary(max_size=50), st.lists(st.binary(max_size=5000), max_size=3))
@settings(deadline=None, max_examples=80)
def test_messages_come_back(values, story, head, buffers):
    frames = wire.pack(values, story, head, buffers, sum(map(len, buffers)))
    message = wire.unpack(3, views(frames))
    assert tuple(getattr(message, name) for name in NAMES) == values
    assert (message.peer, message.story, message.head) == (3, story, head)
    assert b"".join(message.buffers) == b"".join(buffers)


def small():
    return views(wire.pack((0, 1, 1, 0, 1, 5, 0, 0, 1, 1, 1), b"story", b"head", [b"some data"], 9))


def test_small_values_travel_in_one_frame_and_large_ones_beside():
    assert len(small()) == 1
    large = numpy.zeros(wire.INLINE + 1, "u1")
    frames = wire.pack((0, 1, 1, 0, 1, 5, 0, 0, 1, 1, 1), b"", b"", [memoryview(large)], large.nbytes)
    assert len(frames) == 2
    assert frames[1].obj is large


def test_every_truncation_is_noticed():
    (frame,) = small()
    for length in range(len(frame)):
        with pytest.raises(NetworkError):
            wire.unpack(0, [frame[:length]])


def test_every_flipped_bit_is_noticed():
    (frame,) = small()
    for index in range(len(frame)):
        damaged = bytearray(frame)
        damaged[index] ^= 1 << index % 8
        with pytest.raises(NetworkError):
            wire.unpack(0, [memoryview(damaged)])


def test_lost_cut_and_added_frames_are_noticed():
    data = [bytes(5000), bytes(6000)]
    frames = views(wire.pack((0, 2, 1, 0, 1, 5, 0, 0, 1, 1, 1), b"", b"", data, 11000))
    wire.unpack(0, frames)
    for bad in (frames[:2], [*frames, memoryview(b"x")], [frames[0], frames[1][:-1], frames[2]], []):
        with pytest.raises(NetworkError):
            wire.unpack(0, bad)


@pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r\n" + bytes(200), bytes(300), b"x"])
def test_foreign_messages_are_named_so(text):
    with pytest.raises(NetworkError) as caught:
        wire.unpack(5, [memoryview(text)])
    assert "worker 5" in caught.value.what
