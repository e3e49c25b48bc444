"""The wire format keeps any frames, and never takes damaged bytes for a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2_comm_tcp.wire import Head, Kind, MalformedError, pack, read_head, session_id, unpack

FRAMES = st.lists(st.binary(max_size=300), max_size=12)
HEAD = Head(Kind.DATA, 7, 3, session_id("job", "session"), 11, 5, 1 << 40)


def decode(parts):
    head = read_head(bytes(parts[0]))
    return head, unpack(head, bytes(parts[0]), [memoryview(part) for part in parts[1:]])


@given(FRAMES, st.integers(1, 200))
def test_what_is_packed_is_unpacked(frames, separate_from):
    head, got = decode(pack(HEAD, frames, separate_from))
    assert [bytes(frame) for frame in got] == frames
    assert (head.attempt, head.rank, head.sequence, head.acked_bytes) == (7, 3, 11, 1 << 40)
    assert all(frame.readonly for frame in got)


@given(FRAMES, st.integers(1, 200), st.data())
def test_a_truncated_message_is_malformed(frames, separate_from, data):
    parts = pack(HEAD, frames, separate_from)
    which = data.draw(st.integers(0, len(parts) - 1))
    keep = data.draw(st.integers(0, len(parts[which]) - 1)) if len(parts[which]) else None
    cut = [*parts[:which], *([parts[which][:keep]] if keep is not None else []), *parts[which + 1 :]]
    with pytest.raises(MalformedError):
        decode(cut)


@given(st.binary(max_size=200))
def test_other_bytes_are_malformed(junk):
    with pytest.raises(MalformedError):
        read_head(junk)
