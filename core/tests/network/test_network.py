from __future__ import annotations

import time

import numpy as np
import pytest

from twister2.config.job import NetworkConfig
from twister2.spec.channel import HeaderKind
from twister2.spec.comm import Received
from twister2.spec.errors import (
    DeadlineError,
    NetworkError,
    StepAbortedError,
    StepMismatchError,
    UserCodeError,
)
from twister2.worker.callers import caller_line
from twister2.worker.network import grouping
from twister2.worker.network.steps import fingerprint_of
from twister2_testkit.board import Board
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.loopback import LoopbackTransport

DATA = HeaderKind.DATA


def cluster(n=2, make="loopback", **kwargs):
    return LocalCluster(n, make, **kwargs)


def outcomes(function, n=2, **kwargs):
    """What each worker's function raised, with the error of the whole."""
    seen = {}

    def main(env):
        try:
            return function(env)
        except Exception as error:
            seen[env.worker_id] = error
            raise

    with pytest.raises(Exception) as caught:  # noqa: PT011 - the caller looks at it
        cluster(n, **kwargs).run(main)
    return seen, caught.value


def test_objects_and_groups():
    def main(env):
        network = env.network
        assert network.broadcast_object({"from": env.worker_id}, 1) == {"from": 1}
        assert network.exchange_objects(env.worker_id * 2) == [0, 2, 4]
        parity = network.split(env.worker_id % 2)
        assert network.exchange_objects(env.worker_id, group=parity) == ([1] if env.worker_id == 1 else [0, 2])
        return parity, network.split("all"), network.split(None if env.worker_id == 0 else "rest")

    groups = cluster(3).run(main)
    assert [parity.members for parity, _, _ in groups] == [(0, 2), (1,), (0, 2)]
    assert groups[0][1] == groups[1][1] == groups[2][1]
    assert [rest and rest.members for _, _, rest in groups] == [None, (1, 2), (1, 2)]
    numbers = {group.number for row in groups for group in row if group}
    assert len(numbers) == 4, "every group has a number of its own"


def test_groups_of_different_parts_have_different_numbers():
    def main(env):
        half = env.network.split(env.worker_id // 2)
        alone = env.network.split(env.worker_id % 2, group=half)
        return half, alone

    groups = {group.number: group.members for row in cluster(4).run(main) for group in row}
    assert sorted(groups.values()) == [(0,), (0, 1), (1,), (2,), (2, 3), (3,)]


def test_groups_made_without_communication():
    def main(env):
        if env.worker_id == 2:
            with pytest.raises(NetworkError):
                env.network.group([0, 1])
            return None
        first, second = env.network.group([1, 0]), env.network.group([1, 0])
        assert first.members == (1, 0)
        assert first.number != second.number
        assert env.network.exchange_objects(env.worker_id, group=first) == [1, 0]
        for bad in ([], [0, 0], [0, 9]):
            with pytest.raises(NetworkError):
                env.network.group(bad)
        return first

    groups = cluster(3).run(main)
    assert groups[0] == groups[1]


def one(env, port):
    got = []

    def ready():
        delivery = port.receive()
        if delivery is not None:
            got.append(delivery.value)
        return bool(got)

    env.network.wait_until(ready, "a message", 20)
    return got[0]


def test_a_fast_worker_may_be_steps_ahead():
    def main(env):
        for number in range(20):
            with env.network.step("ahead") as step:
                port = env.network.open_port(step, 0, (0,), (1,))
                if env.worker_id == 0:
                    port.send(0, 0, DATA, [number])
                else:
                    if number == 0:
                        env.link.exchange("test", "all sent", None, 10)
                    assert one(env, port) == [number]
        if env.worker_id == 0:
            env.link.exchange("test", "all sent", None, 10)

    cluster().run(main)


class Mute(Board):
    """A master that compares no steps: what the network finds it finds by itself."""

    def enter(self, worker_id, group, number, fingerprint):
        return


def test_members_in_different_steps_are_told_both_lines(monkeypatch):
    monkeypatch.setattr("twister2_testkit.fakes.Board", Mute)

    def main(env):
        if env.worker_id == 0:
            env.network.broadcast_object(1)
        else:
            env.network.exchange_objects(2)
        env.network.exchange_objects(3)

    seen, error = outcomes(main)
    assert isinstance(error, StepMismatchError)
    assert set(seen) == {0, 1}
    assert "broadcast_object" in str(error)
    assert "exchange_objects" in str(error)
    assert str(error).count("test_network.py:") >= 2


def test_the_master_sees_other_steps_and_early_returns():
    def other(env):
        env.network.step("a" if env.worker_id else "b").__enter__()
        env.network.exchange_objects(1)

    assert isinstance(outcomes(other)[1], StepMismatchError)

    def early(env):
        if env.worker_id:
            env.network.exchange_objects(1)

    error = outcomes(early)[1]
    assert isinstance(error, StepMismatchError)
    assert "worker 0 returned" in str(error)


def test_one_failure_ends_all_and_again_on_every_call():
    def main(env):
        with env.network.step("work"):
            if env.worker_id == 1:
                raise ValueError("mine")
        for _ in range(3):
            with pytest.raises(StepAbortedError) as caught:
                env.network.exchange_objects(1)
            assert "mine" in str(caught.value)
        with pytest.raises(StepAbortedError):
            env.network.progress()
        with pytest.raises(StepAbortedError):
            env.network.wait(0.01)
        env.network.exchange_objects(1)

    seen, error = outcomes(main, 3)
    assert isinstance(error, ValueError)
    assert isinstance(seen[0], StepAbortedError)
    assert isinstance(seen[2], StepAbortedError)


def test_the_error_of_a_step_is_told_with_its_traceback():
    board = Board(1)
    link = board.link(0)
    from twister2.worker.network import form_network

    network = form_network(link, [], 1, NetworkConfig())
    with pytest.raises(ZeroDivisionError), network.step("work"):
        _ = 1 / 0
    assert isinstance(board.cause, UserCodeError)
    assert "ZeroDivisionError" in board.cause.details["traceback"]
    assert "test_network.py" in board.cause.where
    network.close()
    board.close()


def test_a_wait_has_a_deadline_and_wakes_for_an_abort():
    def late(env):
        with env.network.step("wait"):
            env.network.wait_until(lambda: False, "Godot", 0.05)

    error = outcomes(late, 1)[1]
    assert isinstance(error, DeadlineError)
    assert "Godot" in str(error)

    def abort(env):
        if env.worker_id == 0:
            time.sleep(0.1)
            raise ValueError("now")
        began = time.monotonic()
        try:
            with env.network.step("wait"):
                env.network.wait_until(lambda: False, "the end", 30)
        finally:
            assert time.monotonic() - began < 20

    assert isinstance(outcomes(abort)[0][1], StepAbortedError)


class Tampering(LoopbackTransport):
    """Changes the messages it receives."""

    tamper = staticmethod(lambda frames: [frames])

    def __init__(self, context):
        super().__init__(context)
        self._ready = []

    def receive(self):
        if not self._ready:
            received = super().receive()
            if received is not None:
                self._ready = [Received(received.peer, tuple(f)) for f in type(self).tamper(received.frames)]
        return self._ready.pop(0) if self._ready else None


def _drop_first():
    seen = []

    def tamper(frames):
        seen.append(1)
        return [] if len(seen) == 2 else [frames]

    return tamper


@pytest.mark.parametrize(
    ("tamper", "text"),
    [
        (lambda frames: [frames, frames], "twice"),
        (_drop_first(), "lost"),
        (lambda frames: [[frames[0][:-1]]], "cannot be read"),
        (lambda frames: [[memoryview(b"hello")]], "cannot be read"),
    ],
)
def test_a_bad_transport_is_found_out(tamper, text):
    make = type("Bad", (Tampering,), {"tamper": staticmethod(tamper)})

    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), (1,))
            if env.worker_id == 0:
                for number in range(4):
                    port.send(0, 0, DATA, [number])
                return
            got = []

            def ready():
                while (delivery := port.receive(0)) is not None:
                    got.append(delivery)
                return len(got) == 4

            env.network.wait_until(ready, "messages", 20)
            env.network.progress()

    seen, error = outcomes(main, make=make)
    assert isinstance(error, NetworkError)
    assert text in str(error)
    assert isinstance(seen[1], NetworkError)


@pytest.mark.parametrize("attempt", [0, 2])
def test_messages_of_older_attempts_are_dropped_and_of_later_ones_refused(attempt):
    def main(env):
        with env.network.step("ghosts") as step:
            port = env.network.open_port(step, 0, (0,), (1,))
            if env.worker_id == 0:
                env.network.attempt = attempt
                port.send(0, 0, DATA, ["ghost"])
            env.link.exchange("test", "sent", None, 5)
            env.network.progress()
            assert port.receive() is None
        return env.network.stale_messages

    if attempt == 0:
        assert cluster().run(main) == [0, 1]
    else:
        with pytest.raises(NetworkError, match="attempt"):
            cluster().run(main)


def test_the_line_of_the_user_is_found_and_fingerprints_compare_kind_and_shape():
    assert caller_line(1).partition(":")[0].endswith("test_network.py")
    one, digest, _ = fingerprint_of("a", "b", "x:1")
    other, same, _ = fingerprint_of("a", "b", "y:2")
    assert digest == same
    assert one.same_as(other)
    assert fingerprint_of("a", "c", "x:1")[1] != digest


def test_refused_messages_wait_and_keep_their_order():
    class Narrow(LoopbackTransport):
        def __init__(self, context):
            super().__init__(context, capacity=2)

    def main(env):
        with env.network.step("test") as step:
            port = env.network.open_port(step, 0, (0,), tuple([1] * 20))
            if env.worker_id == 0:
                for target in range(20):
                    assert port.send(0, target, DATA, [target])
                return None
            got = []

            def ready():
                while (delivery := port.receive()) is not None:
                    got.append(delivery.value[0])
                return len(got) == 20

            env.network.wait_until(ready, "all", 10)
            return sorted(got)

    assert cluster(2, Narrow).run(main)[1] == list(range(20))


def test_what_comes_for_later_steps_counts():
    """A worker that runs ahead fills the memory of one that is slow: the memory service must know."""
    held = []

    def program(env):
        network = env.network
        if env.worker_id == 1:
            for _ in range(3):
                with network.step("ahead") as step:
                    port = network.open_port(step, 0, [1], [0])
                    assert port.send(0, 0, DATA, np.zeros(1 << 20))
            return
        end = time.monotonic() + 20
        while env.memory.use().reserved < 3 << 23 and time.monotonic() < end:
            network.progress()
        held.append(env.memory.use().reserved)
        for _ in range(3):
            with network.step("ahead") as step:
                port = network.open_port(step, 0, [1], [0])
                network.wait_until(lambda port=port: port.receive(0) is not None, "the array")
        held.append(env.memory.use().reserved)

    cluster().run(program)
    assert held[0] >= 3 << 23
    assert held[1] < 1 << 21


def test_two_groups_of_one_number_are_told_apart(monkeypatch):
    """Numbers are hashes: a worker that is in both would mix up their steps."""
    monkeypatch.setattr(grouping, "crc32", lambda data: 77)

    def main(env):
        network = env.network
        first = network.group([0, 1])
        assert network.exchange_objects(env.worker_id, group=first) == [0, 1]
        with pytest.raises(NetworkError, match=r"the group \[1, 0\] has the number of the group \[0, 1\]"):
            network.group([1, 0])
        with pytest.raises(NetworkError, match="number"):
            network.group([0, 1])  # the second of these members
        with pytest.raises(NetworkError, match="number"):
            network.split(0, group=first)

    cluster(2).run(main)
