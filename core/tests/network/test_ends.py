"""The end of a worker's program: others may still read what it sent, and it leaves nothing that others wait in."""

from __future__ import annotations

import threading

import pytest

from twister2.config.job import NetworkConfig
from twister2.spec.channel import HeaderKind
from twister2.spec.collectives import Call
from twister2.spec.errors import NetworkError, OperatorError, StepMismatchError
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.loopback import LoopbackTransport

DATA, END = HeaderKind.DATA, HeaderKind.END
WINDOW = 4


class Leaving(LoopbackTransport):
    """Its workers take nothing more once they have left; what they sent can be read."""

    def __init__(self, context):
        super().__init__(context)
        self.left, self.full = threading.Event(), False

    def isend(self, peer, frames):
        if self._peers[peer].left.is_set():
            raise NetworkError(f"worker {peer} cannot be reached", why="it has closed its transport", remedy="none")
        return None if self.full else super().isend(peer, frames)


def cluster(n=2, transport=Leaving):
    return LocalCluster(n, transport, network=NetworkConfig(window_messages=WINDOW, window_mb=1), deadline_s=15)


@pytest.mark.parametrize("refused", [False, True], ids=["at once", "refused at first"])
def test_a_sender_that_is_through_needs_no_credit(refused):
    """The receiver has not heard of the END when it would give credit back, and the sender has gone meanwhile."""

    def main(env):
        network = env.network
        with network.step("test") as step:
            port = network.open_port(step, 0, (0,), (1,))
            if env.worker_id == 0:
                for number in range(WINDOW):
                    assert port.send(0, 0, DATA, [number])
                env.link.exchange("test", "sent", None, 10)
                env.link.exchange("test", "arrived", None, 10)
                assert port.send(0, 0, END)
            else:
                env.link.exchange("test", "sent", None, 10)
                network.wait_until(lambda: port.waiting == WINDOW, "batches", 10)
                env.link.exchange("test", "arrived", None, 10)
                transport = network.transports[0]
                transport.full = refused
                if refused:
                    assert port.receive(0)
                    assert port.receive(0), "credit is given back here, and waits to be sent"
                transport._peers[0].left.wait(10)
                transport.full = False
                got = []

                def ended():
                    while (delivery := port.receive(0)) is not None:
                        got.append(delivery.value)
                    return len(got) == (3 if refused else 5)

                network.wait_until(ended, "the end", 10)
                return got
        network.transports[0].left.set()
        return None

    rest = [[2], [3], None] if refused else [[0], [1], [2], [3], None]
    assert cluster().run(main)[1] == rest


def test_a_receiver_that_has_gone_too_early_is_missed():
    """Asking it for room must not be forgotten: it would never answer."""

    def main(env):
        network = env.network
        step = network.step("test")
        port = network.open_port(step, 0, (0, 0), (1, 1))
        if env.worker_id == 0:
            while port.send(0, 0, DATA, bytes(1 << 18)):
                pass
            env.link.exchange("test", "sent", None, 10)
            network.transports[0]._peers[1].left.wait(10)
            port._outs[0, 0].messages, port._outs[0, 0].asked = 1, False
            with pytest.raises(NetworkError, match="cannot be reached"):
                port.send(0, 0, DATA, [1])
            port._outs.clear()
        else:
            env.link.exchange("test", "sent", None, 10)
            network.transports[0].left.set()
        port.close()
        network.transports[0].left.set()
        network.end_step(step)

    cluster().run(main)


class Telling(Leaving):
    """Says that a worker has left, not why."""

    def isend(self, peer, frames):
        try:
            return super().isend(peer, frames)
        except NetworkError as error:
            error.details["left"] = peer
            raise


@pytest.mark.parametrize("returns", [True, False], ids=["has returned", "is there"])
def test_who_cannot_reach_a_worker_is_told_whether_it_has_returned(returns):
    seen = []

    def main(env):
        network = env.network
        network._heartbeat_s = 30.0 if returns else 0.1  # it waits for two
        network.collectives().run(Call("barrier"))
        if env.worker_id == 0:
            network.transports[0].left.set()
            if not returns:
                while not env.link.aborted:
                    env.link.poll(0.02)
            return
        network.transports[0]._peers[0].left.wait(10)
        try:
            network.collectives().run_objects(Call("allgather"), 1)
        except (NetworkError, StepMismatchError) as error:
            seen.append(error)
            raise

    with pytest.raises((NetworkError, StepMismatchError)):
        cluster(2, Telling).run(main)
    (error,) = seen
    if returns:
        assert isinstance(error, StepMismatchError)
        assert "worker 0 returned" in str(error)
        assert "allgather" in str(error)
        assert "test_ends.py" in str(error)
    else:
        assert isinstance(error, NetworkError)
        assert "it has closed its transport" in str(error)


def test_a_step_that_is_left_open_is_an_error():
    def main(env):
        step = env.network.step("made", "but not run")
        env.network.open_port(step, 0, (0,), (1,))

    with pytest.raises(OperatorError, match="made") as caught:
        cluster(2, "loopback").run(main)
    assert "test_ends.py" in caught.value.where


@pytest.mark.parametrize("kept", [False, True], ids=["by nobody", "as a lasting call"])
def test_a_step_without_channels_of_this_worker_may_be_open(kept):
    def main(env):
        network = env.network
        step = network.step("made")
        if kept:
            network.open_port(step, 0, (0,), (1,))
            network.keep_open(step, lambda: False, "for ever")
            return
        port = network.open_port(step, 0, (0,), (0,))
        if env.worker_id == 0:
            port.send(0, 0, END)
            port.receive(0)

    cluster(2, "loopback").run(main)
