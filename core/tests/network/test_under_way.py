"""What is under way is bounded by a share of the memory budget, is counted, and stops nobody for good."""

from __future__ import annotations

import sys

import numpy
import pytest

from twister2.config.job import NetworkConfig
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import MemoryBudgetError
from twister2.worker.memory import Memory
from twister2.worker.network.under_way import LEAST_BYTES, SHARE, UnderWay
from twister2_testkit.fakes import LocalCluster

DATA, END = HeaderKind.DATA, HeaderKind.END
MIB = 1 << 20
SENT = "network: sent, not taken"


def cluster(n, megabytes, messages=64):
    config = NetworkConfig(window_messages=messages, window_mb=16)
    return LocalCluster(n, "loopback", network=config, memory_bytes=megabytes * MIB)


def counted(env, name=SENT):
    return dict(env.memory.use().holders).get(name, 0)


def test_the_share_of_a_peer():
    assert UnderWay(NetworkConfig(), None, 4).peer_bytes == sys.maxsize
    assert UnderWay(NetworkConfig(), Memory(0), 4).peer_bytes == sys.maxsize, "no limit, no bound"
    assert UnderWay(NetworkConfig(), Memory(256 * MIB), 4).peer_bytes == 256 * MIB // SHARE // 4
    assert UnderWay(NetworkConfig(), Memory(MIB), 4).peer_bytes == LEAST_BYTES


def test_channels_to_one_worker_share_a_part_of_the_budget():
    """32 MiB among 2 workers: 2 MiB to each, whatever the number of channels."""

    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1,) * 8)
            if env.worker_id:
                env.link.exchange("test", "sent", None, 10)
                return 0
            batch = numpy.ones(MIB // 4, "u1")
            sent = sum(port.send(0, target, DATA, batch.copy()) for _ in range(20) for target in range(8))
            used = counted(env)
            env.link.exchange("test", "sent", None, 10)
            return sent, used

    sent, used = cluster(2, 32).run(main)[0]
    assert sent == 8
    assert 1.5 * MIB < used <= 2 * MIB


@pytest.mark.parametrize("local", [False, True])
def test_a_channel_may_send_one_batch_however_full_others_are(local):
    """Channel 1 is taken, channel 0 never is: channel 1 goes on to its end, without pauses between the batches."""
    batches = 30

    def main(env):
        receiver = 0 if local else 1
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0, 0), (receiver, receiver))
            todo = {0: 50, 1: batches} if env.worker_id == 0 else {}
            got = []

            def advance():
                for source in todo:
                    while todo[source] and port.send(source, source, DATA, numpy.ones(MIB, "u1")):
                        todo[source] -= 1
                if env.worker_id == receiver:
                    while (delivery := port.receive(1)) is not None:
                        got.append(delivery.value.nbytes)
                    return len(got) == batches
                return not todo.get(1)

            env.network.wait_until(advance, "batches", 7)
            assert todo.get(0, 1) != 0, "a channel that nobody takes from is stopped"
            return sum(got)

    assert sum(cluster(2, 16).run(main)) == batches * MIB


def test_what_was_counted_is_given_back_and_a_batch_for_many_counts_once():
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1, 2))
            if env.worker_id:
                env.link.exchange("test", "sent", None, 10)
                env.network.wait_until(lambda: port.receive(env.worker_id - 1) is not None, "a batch", 10)
                return 0, 0
            batch = numpy.ones(4 * MIB, "u1")
            assert port.send(0, 0, DATA, batch)
            assert port.send(0, 1, DATA, batch)
            during = counted(env)
            env.link.exchange("test", "sent", None, 10)
            port.close()
            return during, counted(env)

    assert cluster(3, 64).run(main)[0] == (4 * MIB, 0)


def test_a_channel_that_has_ended_leaves_its_share_to_others():
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0, 0), (1, 1))
            if env.worker_id:
                env.link.exchange("test", "sent", None, 10)
                return True
            while port.send(0, 0, DATA, numpy.ones(MIB // 2, "u1")):
                pass
            assert port.send(1, 1, DATA, [1])
            assert not port.send(1, 1, DATA, [1])
            assert port.send(0, 0, END)
            free = port.send(1, 1, DATA, [1])
            env.link.exchange("test", "sent", None, 10)
            return free

    assert cluster(2, 16).run(main) == [True, True]


@pytest.mark.parametrize("local", [False, True])
def test_what_ended_channels_had_under_way_is_given_back_before_the_port_closes(local):
    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (0,) if local else (1,))
            if env.worker_id:
                env.link.exchange("test", "looked", None, 10)
                env.network.wait_until(lambda: port.waiting == 2 or local, "the batch and the end", 10)
                return None
            assert port.send(0, 0, DATA, numpy.ones(MIB, "u1"))
            before = counted(env)
            assert port.send(0, 0, END)
            after = counted(env)
            env.link.exchange("test", "looked", None, 10)
            if local:
                assert port.receive(0).kind == DATA
                assert port.receive(0).kind == END
            return before, after, counted(env)

    assert cluster(2, 64).run(main)[0] == ((MIB, MIB, 0) if local else (MIB, 0, 0))


def test_what_is_too_large_to_be_received_is_to_be_sent_in_smaller_parts():
    under_way = UnderWay(NetworkConfig(), Memory(4 * MIB), 2)
    with pytest.raises(MemoryBudgetError, match="received, not taken yet") as caught:
        under_way.hold(5 * MIB)
    assert "smaller parts" in caught.value.remedy
