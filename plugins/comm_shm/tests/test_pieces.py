"""How arrays are cut into pieces: all of them fit, and none is left that is much shorter than the others."""

from __future__ import annotations

import pytest

from twister2_comm_shm.collectives.staged import _pieces

ROOM = 512 << 10


@pytest.mark.parametrize("itemsize", [1, 8, 24])
@pytest.mark.parametrize("room", [1000, ROOM // 3, ROOM])
@pytest.mark.parametrize("n_bytes", [65_537, (1 << 20) - 8, 1 << 20, (1 << 20) + 8, 2 << 20, 67_000_001])
def test_pieces_fit_and_are_as_few_as_can_be(itemsize, room, n_bytes):
    room, n_items = room // itemsize, n_bytes // itemsize
    length = _pieces(n_items, room, itemsize, 1)
    rounds = -(-n_items // length)
    assert 1 <= length <= room
    assert rounds == -(-n_items // room)


def test_pieces_are_of_about_the_same_length_and_whole_cache_lines():
    n_bytes, room = 2 << 20, (1 << 20) // 3  # six pieces that are full would leave a seventh of two bytes
    length = _pieces(n_bytes, room, 1, 1)
    assert length % 64 == 0
    assert n_bytes - 6 * length > 0.9 * length


def test_there_are_as_many_pieces_as_are_wanted_unless_they_would_be_too_small():
    assert _pieces(1 << 20, ROOM, 1, 4) == 256 << 10
    assert _pieces(100 << 10, ROOM, 1, 4) == 64 << 10
