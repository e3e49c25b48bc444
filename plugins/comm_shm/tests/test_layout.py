"""The memory of a group: no part of it lies in another one."""

from __future__ import annotations

import itertools
import mmap

import pytest

from twister2_comm_shm.collectives.area import SLOT, Layout


@pytest.mark.parametrize("size", [2, 3, 17])
@pytest.mark.parametrize("stage_bytes", [512 << 10, (1 << 20) + 1, 4 << 20, 64 << 20])
def test_parts_do_not_overlap(size, stage_bytes):
    layout = Layout(size, stage_bytes)
    parts = [(0, layout.slots), (layout.n_bytes, 0)]
    for n_bytes in (SLOT, layout.room_bytes):
        places, distance = layout.places(n_bytes)
        parts += [(place + member * distance, n_bytes) for place in places for member in range(size)]
    parts += [(layout.stage(member), layout.stage_bytes) for member in range(size)]
    parts.sort()
    assert all(before + n_bytes <= after for (before, n_bytes), (after, _) in itertools.pairwise(parts))
    assert all(place % mmap.PAGESIZE == 0 for place, _ in parts)
    assert layout.room_bytes > SLOT
