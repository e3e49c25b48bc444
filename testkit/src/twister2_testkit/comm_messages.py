"""Numbered messages that the suite for transports sends, and checks when they arrive."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twister2_testkit.comm_world import Rank

MIXED = (0, 8, 100, 65536, 3, 200_001)


@functools.lru_cache(maxsize=64)
def pattern(seed: object, size: int) -> bytes:
    """Bytes that tell where they belong: other seeds and other offsets give other bytes."""
    if size <= 4096:
        return hashlib.shake_128(repr(seed).encode()).digest(size)
    unit = hashlib.shake_128(repr(seed).encode()).digest(65521)
    return (unit * (size // len(unit) + 1))[:size]


def frames_of(sender: int, number: int) -> list[bytes]:
    """Message ``number`` of ``sender``: its number, and a frame of some size."""
    size = MIXED[number % len(MIXED)]
    return [b"%d %d" % (sender, number), pattern((sender, number % 7), size)]


def check_message(received: Any, sender: int, number: int) -> None:
    """Check that this is message ``number`` of ``sender``."""
    head = bytes(received.frames[0]) if received.frames else b""
    assert received.peer == sender, f"{head!r} of worker {sender} came as from {received.peer}"
    assert head == b"%d %d" % (sender, number), f"message {number} of worker {sender} expected, {head!r} came"
    expected = frames_of(sender, number)
    assert [bytes(frame) for frame in received.frames] == expected, f"message {number} of {sender} is damaged"


def trade(rank: Rank, to_send: dict[int, int], to_get: dict[int, int]) -> None:
    """Send so many messages to each peer and get so many from each, all at once, checking order and contents.

    Reads nothing when nothing is to get.
    """
    sent, got = dict.fromkeys(to_send, 0), dict.fromkeys(to_get, 0)

    def step() -> bool | None:
        for peer, count in to_send.items():
            if sent[peer] < count and rank.transport.isend(peer, frames_of(rank.id, sent[peer])) is not None:
                sent[peer] += 1
        received = rank.transport.receive() if to_get else None
        if received is not None:
            assert received.peer in got, f"a message came from worker {received.peer}, who sent none"
            check_message(received, received.peer, got[received.peer])
            got[received.peer] += 1
        return True if (sent, got) == (to_send, to_get) else None

    rank.until(step, f"messages {to_get} by worker id")


def clog(rank: Rank, peer: int, payload: bytes, limit: int, least: int = 0) -> int:
    """Send numbered messages until one is refused; how many were accepted.

    :param least: go on until so many were accepted: one may be refused before, while a connection is being made. Every
        transport takes so many small ones, or the test behind it has nothing to look at.
    """
    accepted = 0
    while True:
        while rank.transport.isend(peer, [b"%d" % accepted, payload]) is not None:
            accepted += 1
            assert accepted <= limit, f"{accepted} messages of {len(payload)} bytes were accepted without a reader"
        if accepted >= least:
            return accepted
        message = [b"%d" % accepted, payload]
        rank.send(peer, message)
        accepted += 1
