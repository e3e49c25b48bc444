from __future__ import annotations

import threading
import zlib

import numpy
import pytest

from twister2.config.job import NetworkConfig
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import NetworkError, SerializationError
from twister2.worker.network import wire
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.loopback import LoopbackTransport

DATA, END, BARRIER = HeaderKind.DATA, HeaderKind.END, HeaderKind.BARRIER


def cluster(n=2, *, window=4, **kwargs):
    return LocalCluster(n, "loopback", network=NetworkConfig(window_messages=window, window_mb=1), **kwargs)


def receive_all(env, port, target, count):
    got = []

    def ready():
        while len(got) < count and (delivery := port.receive(target)) is not None:
            got.append(delivery)
        return len(got) == count

    env.network.wait_until(ready, "messages", 10)
    return got


def test_a_channel_has_credit_for_a_window_and_marks_need_none():
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1, 1))
            if env.worker_id == 0:
                for number in range(4):
                    assert port.can_send(0, 0)
                    assert port.send(0, 0, DATA, [number])
                assert not port.can_send(0, 0)
                assert not port.send(0, 0, DATA, ["refused"])
                assert port.send(0, 0, BARRIER, 3)
                assert port.can_send(0, 1), "credit is per channel"
                env.network.wait_until(lambda: port.send(0, 0, DATA, ["later"]), "credit", 10)
                assert port.counters.blocked_s > 0
                assert port.counters.records_sent == 5
                return None
            got = receive_all(env, port, 0, 6)
            assert port.counters.records_received == 5
            return [(delivery.kind, delivery.value, delivery.n_records) for delivery in got]

    assert cluster().run(main)[1] == [
        *[(DATA, [number], 1) for number in range(4)],
        (BARRIER, 3, 0),
        (DATA, ["later"], 1),
    ]


@pytest.mark.parametrize("to", [0, 1])
def test_end_comes_behind_the_last_batch_and_in_its_message(to):
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (to,))
            if env.worker_id == 0:
                assert port.send(0, 0, DATA, [1])
                assert port.send(0, 0, DATA, [2], last=True)
            if env.worker_id != to:
                return port.counters.messages_sent
            got = receive_all(env, port, 0, 3)
            assert port.receive(0) is None
            assert port.waiting == 0
            assert port.is_through
            assert port.counters.messages_received == 2 + (to == 0)
            return [(delivery.kind, delivery.value) for delivery in got]

    results = cluster().run(main)
    assert results[to] == [(DATA, [1]), (DATA, [2]), (END, None)]
    assert results[0] == 2 or to == 0


def test_a_last_batch_without_credit_is_refused_with_its_end():
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1,))
            if env.worker_id == 0:
                assert port.send(0, 0, DATA, [1])
                assert not port.send(0, 0, DATA, [2], last=True)
                env.network.exchange_objects(None)
                env.network.wait_until(lambda: port.send(0, 0, DATA, [3], last=True), "credit", 10)
                return None
            env.network.exchange_objects(None)
            return [(delivery.kind, delivery.value) for delivery in receive_all(env, port, 0, 3)]

    assert cluster(window=1).run(main)[1] == [(DATA, [1]), (DATA, [3]), (END, None)]


def test_bytes_use_up_credit_too_but_one_batch_may_be_of_any_size():
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1,))
            if env.worker_id == 0:
                assert port.send(0, 0, DATA, numpy.zeros(5 << 20, "u1"))
                assert not port.send(0, 0, DATA, numpy.zeros(1, "u1"))
                env.network.wait_until(lambda: port.send(0, 0, DATA, numpy.ones(1, "u1")), "credit", 10)
                return 0
            return sum(delivery.value.nbytes for delivery in receive_all(env, port, 0, 2))

    assert cluster().run(main)[1] == (5 << 20) + 1


def test_a_local_batch_is_handed_over_as_it_is_and_frozen():
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (0,))
            array, batch = numpy.arange(5), [object()]
            assert port.send(0, 0, DATA, array)
            assert port.send(0, 0, DATA, batch)
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 7
            assert port.receive(0).value is array
            assert port.receive().value is batch
            assert port.receive() is None
            view = numpy.arange(10)
            port.send(0, 0, DATA, view[:5])
            view[:] = -1
            assert port.receive(0).value.tolist() == [0, 1, 2, 3, 4]
            for _ in range(4):
                assert port.send(0, 0, DATA, [1])
            assert not port.send(0, 0, DATA, [1]), "local channels are bounded too"

    cluster(1).run(main)


def test_messages_for_a_port_that_is_not_open_yet_are_kept():
    def main(env):
        with env.network.step("test") as step:
            if env.worker_id == 0:
                port = env.network.open_port(step, 7, (0,), (1,))
                for number in range(3):
                    port.send(0, 0, DATA, [number])
                env.link.exchange("test", "sent", None, 5)
                return None
            env.link.exchange("test", "sent", None, 5)
            env.network.progress()
            port = env.network.open_port(step, 7, (0,), (1,))
            return [delivery.value for delivery in receive_all(env, port, 0, 3)]

    assert cluster().run(main)[1] == [[0], [1], [2]]


def test_skipped_sources_stay_where_they_are():
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0, 0), (0,))
            for number in range(2):
                port.send(0, 0, DATA, ["a", number])
                port.send(1, 0, DATA, ["b", number])
            assert [port.receive(0, {0}).value[0] for _ in range(2)] == ["b", "b"]
            assert port.receive(0, {0}) is None
            assert [port.receive(0).value for _ in range(2)] == [["a", 0], ["a", 1]]

    cluster(1).run(main)


def test_a_closed_port_drops_what_comes_and_takes_nothing():
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1,))
            if env.worker_id == 1:
                port.close()
                port.close()
                env.link.exchange("test", "closed", None, 5)
                env.link.exchange("test", "sent", None, 5)
                env.network.progress()
                return env.network.stale_messages
            env.link.exchange("test", "closed", None, 5)
            port.send(0, 0, DATA, [1])
            env.link.exchange("test", "sent", None, 5)
            port.close()
            with pytest.raises(NetworkError):
                port.send(0, 0, DATA, [1])
            with pytest.raises(NetworkError):
                env.network.open_port(step, 0, (0,), (1,))
        with pytest.raises(NetworkError):
            env.network.open_port(step, 1, (0,), (1,))
        return None

    assert cluster().run(main)[1] == 1


def test_a_batch_that_cannot_be_sent_is_an_error_here():
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1,))
            if env.worker_id == 0:
                port.send(0, 0, DATA, [1, threading.Lock()])

    with pytest.raises(SerializationError):
        cluster().run(main)


def test_a_batch_for_many_workers_is_encoded_once():
    class Counted:
        times = 0

        def __reduce__(self):
            Counted.times += 1
            return int, ()

    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (0, 1, 2))
            if env.worker_id == 0:
                batch = [Counted()]
                for target in range(3):
                    port.send(0, target, DATA, batch)
                assert Counted.times == 1
                port.send(0, 1, DATA, batch)
                assert Counted.times == 2, "the same batch again may have changed"
            else:
                receive_all(env, port, env.worker_id, 2 if env.worker_id == 1 else 1)

    cluster(3).run(main)


def test_what_waits_to_be_received_is_counted():
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1,))
            if env.worker_id == 0:
                port.send(0, 0, DATA, numpy.zeros(3 << 20, "u1"))
                return env.link.exchange("test", "done", None, 10) and 0
            env.network.wait_until(lambda: port.waiting == 1, "the batch", 5)
            reserved = env.memory.use().reserved
            port.receive(0)
            assert env.memory.use().reserved == 0
            env.link.exchange("test", "done", None, 10)
            return reserved

    assert cluster().run(main)[1] == 3 << 20


def test_a_schema_is_sent_when_it_changes():
    pyarrow = pytest.importorskip("pyarrow")
    one = pyarrow.RecordBatch.from_pydict({f"a column with a long name {number}": [number] for number in range(50)})
    other = pyarrow.RecordBatch.from_pydict({"another": ["x"]})
    rows = numpy.zeros(3, [(f"field {number}", "i8") for number in range(50)])
    plan = [one, one, other, one, rows, rows, numpy.arange(3), rows, one]
    described = [True, False, True, True, True, False, False, False, True]
    sent = []

    class Counts(LoopbackTransport):
        def isend(self, peer, frames):
            if self._context.rank == 0:
                sent.append(
                    b"a column with a long name 49" in b"".join(map(bytes, frames))
                    or b"field 49" in b"".join(map(bytes, frames))
                )
            return super().isend(peer, frames)

    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1, 1))
            if env.worker_id == 0:
                for target in (0, 1):
                    for value in plan:
                        assert port.send(0, target, DATA, value)
                        assert port.send(0, target, BARRIER, 1)
                return None
            got = [receive_all(env, port, target, 2 * len(plan))[::2] for target in (0, 1)]
            return [[delivery.value for delivery in channel] for channel in got]

    for channel in LocalCluster(2, Counts, network=NetworkConfig(window_messages=100)).run(main)[1]:
        for value, expected in zip(channel, plan, strict=True):
            assert type(value) is type(expected)
            assert value.equals(expected) if hasattr(value, "equals") else value.tolist() == expected.tolist()
    described[2] = False  # the other schema has other names
    assert sent[: 2 * len(plan) : 2] == described
    assert sent[2 * len(plan) :: 2] == described, "each channel is told for itself"


def test_a_repeated_description_that_never_came_is_an_error():
    class Forgets(LoopbackTransport):
        def isend(self, peer, frames):
            front = bytearray(frames[0])
            if self._context.rank == 0 and front[4] == DATA:
                front[5] |= 0x80
                crc = zlib.crc32(front[wire.SIZE :], zlib.crc32(front[: wire.HEADER.size]))
                front[wire.HEADER.size : wire.SIZE] = crc.to_bytes(4, "little")
            return super().isend(peer, [bytes(front), *frames[1:]])

    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1,))
            if env.worker_id == 0:
                port.send(0, 0, DATA, ["x"])
            else:
                receive_all(env, port, 0, 1)

    with pytest.raises(NetworkError, match="no description"):
        LocalCluster(2, Forgets).run(main)
