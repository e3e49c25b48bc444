"""The wire format keeps any frames, and never takes damaged bytes for a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.transports import session_id
from twister2_comm_tcp.wire import Batch, Head, Kind, MalformedError, pack, read_head, unpack

FRAMES = st.lists(st.binary(max_size=300), max_size=12)
HEAD = Head(Kind.DATA, 7, 3, session_id("job", "session", size=8), 11, 5, 1 << 40)


def decode_all(parts):
    head = read_head(bytes(parts[0]))
    return head, unpack(head, bytes(parts[0]), [memoryview(part) for part in parts[1:]])


def decode(parts):
    head, (frames,) = decode_all(parts)
    return head, frames


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


@given(st.lists(FRAMES, max_size=40), st.integers(1, 200))
def test_a_batch_keeps_its_messages_apart(messages, separate_from):
    batch = Batch()
    for frames in messages:
        batch.add(frames, separate_from)
    head, got = decode_all(batch.pack(HEAD))
    assert [[bytes(frame) for frame in frames] for frames in got] == messages
    assert head.n_messages == len(messages)


@given(st.lists(FRAMES, min_size=1, max_size=5), st.integers(1, 200), st.data())
def test_a_changed_table_is_malformed_or_gives_other_frames_of_the_same_bytes(messages, separate_from, data):
    """Whatever the table says, nothing outside the message is read and the decoder ends."""
    batch = Batch()
    for frames in messages:
        batch.add(frames, separate_from)
    first, *parts = batch.pack(HEAD)
    first = bytearray(first)
    at = data.draw(st.integers(64, len(first) - 1))
    first[at] ^= data.draw(st.integers(1, 255))
    try:
        _, got = decode_all([bytes(first), *parts])
    except MalformedError:
        return
    assert sum(len(frame) for frames in got for frame in frames) <= len(first) + sum(map(len, parts))
