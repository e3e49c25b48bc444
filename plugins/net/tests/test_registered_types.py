"""Types with a serialiser and a hash of their own, through operators and over disks; batches that became one."""

from __future__ import annotations

import struct
import threading

import pytest

import twister2
import twister2_net as net
from twister2.config.job import NetworkConfig
from twister2.spec import hashing
from twister2.worker.network import codec
from twister2_testkit.fakes import LocalCluster


class Place:
    """Cannot be pickled, nor hashed by the system."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return isinstance(other, Place) and (self.x, self.y) == (other.x, other.y)

    def __hash__(self):
        return hash((self.x, self.y))

    def __reduce__(self):
        raise TypeError("a place is not pickled")


class PlaceCodec:
    used = 0

    def encode(self, place):
        PlaceCodec.used += 1
        return [struct.pack("<qq", place.x, place.y)]

    def decode(self, buffers):
        return Place(*struct.unpack("<qq", bytes(buffers[0])))


@pytest.fixture
def places():
    twister2.register_serializer(Place, PlaceCodec())
    twister2.register_key(Place, lambda place: (place.x, place.y))
    yield
    for table in (codec._registered, codec._by_name, codec._reducers):
        table.clear()
    del hashing._registered[Place]


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("transport", ["loopback", "tcp"])
def test_registered_types_are_keys_and_values_that_travel_and_spill(transport):
    n = 3

    def main(env):
        pairs = ((Place(number % 500, 1), (number, "." * 50)) for number in range(env.worker_id, 12_000, n))
        groups = {(place.x, place.y): sorted(number for number, _ in values)
                  for place, values in net.keyed_gather(env, pairs)}  # fmt: skip
        values = net.partition(env, [Place(env.worker_id, number) for number in range(n)], lambda place, n: place.y)
        return groups, sorted((place.x, place.y) for place in values), env.memory.use().spilled

    results = LocalCluster(n, transport, memory_bytes=1 << 19, deadline_s=60).run(main)
    together = {}
    for worker, (groups, values, spilled) in enumerate(results):
        assert not set(together) & set(groups)
        together |= groups
        assert values == [(other, worker) for other in range(n)]
        assert spilled
    assert together == {(key, 1): list(range(key, 12_000, 500)) for key in range(500)}
    assert PlaceCodec.used


def test_records_that_wait_leave_in_fewer_messages():
    """What waits on a channel of a stream becomes one batch."""
    many = 2000
    sent_all = threading.Event()

    def main(env):
        with net.operator(env, "partition", sources=[0], targets=[1], mode="stream") as op:
            if env.worker_id == 0:
                for number in range(many):
                    while not op.send(0, [number]):
                        sent_all.set()  # no more room: the target may read
                        op.pump()
                sent_all.set()
                op.finish()
                op.wait_until(lambda: op.is_complete, 20.0)
                return op.counters.messages_sent, op.counters.records_sent
            assert sent_all.wait(20.0)
            records = [record for item in op.items(20.0) for record in item.value]
            assert records == list(range(many))
            return op.counters.messages_received, op.counters.records_received

    config = NetworkConfig(window_messages=4, window_mb=1, form_deadline_s=10)
    sent, received = LocalCluster(2, "loopback", network=config, deadline_s=40).run(main)
    assert sent == received
    assert sent[1] == many
    assert sent[0] < many // 2
