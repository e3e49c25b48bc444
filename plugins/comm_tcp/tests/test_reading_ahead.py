"""How much is taken in before somebody reads it: what has left the cache by then is dear."""

from __future__ import annotations

import pytest

from twister2_comm_tcp.sources import Sources


class Full:
    """Has messages without end."""

    ended = False
    peer = -1

    def __init__(self, size: int) -> None:
        self.part = memoryview(bytes(size))
        self.taken = 0

    def take(self) -> tuple[bytes, list[memoryview]]:
        self.taken += 1
        return b"first", [self.part] if len(self.part) else []

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("size", "limit", "most"),
    [(0, 128, 128), (1000, 128, 128), (64 << 10, 128, 26), (1 << 20, 128, 2), (1 << 20, 16, 1)],
)
def test_large_messages_count_more_and_the_rest_is_taken_the_next_time(size: int, limit: int, most: int) -> None:
    sources = Sources(lambda first, parts: 0, lambda peer: None, lambda: None)
    full = Full(size)
    try:
        sources._busy.append(full)
        for turn in (1, 2):
            assert sources.take_in(limit)
            assert full.taken == turn * most
    finally:
        sources.close()
