"""The format of heads keeps any frames, and never takes damaged bytes for a head."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2_comm_mpi.wire import chunks, pack, unpack

FRAMES = st.lists(st.binary(max_size=300), max_size=12)


@given(FRAMES, st.integers(1, 200))
def test_what_is_packed_is_unpacked(frames, separate_from):
    data, bodies = pack([memoryview(frame) for frame in frames], (3, 4), separate_from)
    head = unpack(memoryview(data))
    assert head.acked == (3, 4)
    assert head.bodies == tuple(map(len, bodies))
    assert [bytes(frame) for frame in head.complete(bodies)] == frames


@given(FRAMES, st.data())
def test_a_truncated_head_is_an_error(frames, data):
    packed, _ = pack([memoryview(frame) for frame in frames], (0, 0), 100)
    with pytest.raises(ValueError, match=r"bytes|head"):
        unpack(memoryview(packed)[: data.draw(st.integers(0, len(packed) - 1))])


@given(st.binary(max_size=50), st.integers(1, 20))
def test_chunks_are_the_whole_in_pieces(data, size):
    pieces = list(chunks(memoryview(data), size))
    assert b"".join(pieces) == data
    assert all(1 <= len(piece) <= size for piece in pieces)
