"""A worker's memory limit: buffers are small against it, and said beforehand."""

from __future__ import annotations

import pytest

from twister2.spec.comm import TransportContext
from twister2.spec.environment import NodeFacts
from twister2.worker.memory import Memory
from twister2.worker.network.forming import _limit
from twister2_comm_shm.config import ShmConfig
from twister2_comm_shm.transport import ShmTransport

CONTEXT = TransportContext(
    job_id="j", attempt=1, rank=0, size=2, node=NodeFacts("here"), runtime_dir="/", session="s",
    curve_public="", curve_secret="", peer_keys={}, aborted=lambda: False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("limit_mb", "own", "pool"),
    [(300, 128, 16), (300, 4, 4), (4, 128, 1), (1 << 16, 128, 128), (1024, 100, 64), (1601, 100, 100)],
)
def test_the_pool_is_a_sixteenth_of_the_limit_at_most(limit_mb, own, pool):
    transport = ShmTransport(ShmConfig(pool_bytes=own << 20), CONTEXT)
    memory = Memory(limit_mb << 20)
    _limit("shm", transport, memory)
    assert memory.use().reserved == 2 * pool << 20
    assert dict(memory.use().holders) == {"comm shm: buffers": 2 * pool << 20}


def test_a_budget_smaller_than_the_buffers_is_no_error():
    memory = Memory(1 << 20)
    _limit("shm", ShmTransport(ShmConfig(), CONTEXT), memory)
    assert memory.use().reserved == 0


def test_without_a_limit_nothing_is_taken():
    memory = Memory(0)
    _limit("shm", ShmTransport(ShmConfig(), CONTEXT), memory)
    assert memory.use().reserved == 0
