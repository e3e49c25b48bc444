"""Wake-ups: whoever sleeps on the transport's descriptor is woken by every message, though its peer, or itself, was
stopped and resumed at any moment.

Two processes exchange random messages and calls. One that has nothing to do sleeps on the descriptor alone, without
the looks now and then that the network takes beside it: one wake-up that is lost is a test that fails. Meanwhile both
are stopped and resumed at random; what the transport does about silent peers happens as often as time allows. As the
contract asks, nobody leaves a message that is not done: small ones that wait to leave together need progress.
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import signal
import subprocess
import sys
import time
import traceback

import pytest
import zmq

from twister2.spec.comm import TransportContext
from twister2.spec.environment import NodeFacts

TURNS = 60
TURN_S = 60.0
"""A turn that takes so long, milliseconds as a rule, waits for what has come and was not told of, or does not come."""
ALL_S = 150.0
"""All turns together."""
MOST = 300 << 10


class End:
    """One of the two workers."""

    def __init__(self, rank, config, keys, folder):
        from twister2_comm_tcp import outgoing, transport, watch
        from twister2_comm_tcp.config import TcpConfig

        watch.FIRST_S, outgoing.SYNC_S, transport._TICK_S = (
            0.02,
            0.02,
            0.005,
        )  # seconds are too long to be met by chance
        self.rank, self.peer = rank, 1 - rank
        self.transport = transport.TcpTransport(
            TcpConfig(**config),
            TransportContext(
                job_id="job",
                attempt=1,
                rank=rank,
                size=2,
                node=NodeFacts("host"),
                runtime_dir=folder,
                session="session",
                curve_public=keys[rank][0],
                curve_secret=keys[rank][1],
                peer_keys={number: key[0] for number, key in enumerate(keys)},
                aborted=lambda: False,
            ),
        )
        self.address = self.transport.open()
        self.poller = select.poll()
        self.turn, self.until = 0, time.monotonic() + TURN_S

    def begin(self, turn):
        self.turn, self.until = turn, time.monotonic() + TURN_S

    def connect(self, addresses):
        transport = self.transport
        transport.connect(addresses)
        while not transport.reaches(self.peer):
            transport.progress()
            self.pause("to reach the peer")
        self.poller.register(transport.wait_fd(), select.POLLIN)

    def sleep(self, what):
        """Until the descriptor tells of something."""
        if not self.poller.poll(max(0.0, self.until - time.monotonic()) * 1000):
            raise AssertionError(f"asleep {what}: {self}")

    def pause(self, what):
        """For what nothing tells of."""
        if time.monotonic() > self.until:
            raise AssertionError(f"awake {what}: {self}")
        time.sleep(0.0005)

    def __str__(self):
        poller = select.poll()  # its own: one that a signal has interrupted is not asked again
        if (descriptor := self.transport.wait_fd()) is not None:
            poller.register(descriptor, select.POLLIN)
        polls = bool(poller.poll(0))
        words = f"descriptor {'polls' if polls else 'does not poll'} readable; {self.transport.state(self.peer)}"
        if not polls:  # this looks into zmq's sockets too, whatever their descriptors say
            lies = [pull.has_some for pull in self.transport._sources._pulls.values()]
            words += f"; zmq's sockets have messages: {lies}"
        return f"rank {self.rank} in turn {self.turn}, {TURN_S - self.until + time.monotonic():.1f} s old; {words}"

    def exchange(self, mine, theirs):
        """Send messages of these sizes, and receive such from the peer."""
        transport, turn, taken, sends = self.transport, self.turn, 0, []
        left = [message(turn, self.rank, number, size) for number, size in enumerate(mine)][::-1]
        while left or sends or taken < len(theirs):
            moved = False
            while left and (send := transport.isend(self.peer, left[-1])) is not None:
                left.pop()
                sends.append(send)
                moved = True
            moved = transport.progress() or moved
            while taken < len(theirs) and (got := transport.receive()) is not None:
                assert b"".join(got.frames) == b"".join(message(turn, self.peer, taken, theirs[taken]))
                taken += 1
                moved = True
            sends = [send for send in sends if not send.done]
            if moved:
                continue
            there = f"with {taken} of {len(theirs)} messages, {len(left)} to send, {len(sends)} on their way"
            if left or sends:  # nothing tells of these
                self.pause(there)
            elif taken < len(theirs):
                self.sleep(there)

    def call(self, native):
        """A collective call of the transport's own."""
        import numpy as np

        from twister2.spec.collectives import Call

        turn, out = self.turn, np.zeros(4)
        request = native.start(Call("allreduce"), np.full(4, float(self.rank + turn)), out, turn, 7)
        while not request.test():
            self.sleep("in a collective call")
        assert out.tolist() == [2.0 * turn + 1] * 4


def message(turn, rank, number, size):
    """Its frames: what tells it from others, and some that are sent from where they lie."""
    fill = (turn * 31 + rank * 7 + number) & 255
    return [f"{turn} {rank} {number}".encode(), bytes([fill]) * size]


def sizes(chance):
    return [chance.choice((0, 8, 5000, 70_000, MOST)) for _ in range(chance.choice((0, 1, 1, 2, 3, 40)))]


def worker(rank, config, keys, folder, seed):
    """A process of its own: speaks lines of JSON with the test."""
    end = End(rank, config, keys, folder)

    def tell(_, frame):
        print(f"{end}\n{''.join(traceback.format_stack(frame, limit=4))}", flush=True)

    signal.signal(signal.SIGUSR1, tell)
    print(json.dumps(end.address), flush=True)
    addresses = json.loads(sys.stdin.readline())
    end.begin(0)
    end.connect(dict(enumerate(addresses)))
    native = end.transport.native((0, 1))
    chance, pauses = random.Random(seed), random.Random(seed + rank)
    print("up", flush=True)
    assert sys.stdin.readline() == "go\n"
    for turn in range(1, TURNS + 1):
        end.begin(turn)
        both = [sizes(chance), sizes(chance)]
        end.exchange(both[rank], both[1 - rank])
        if turn % 3 == 0:
            end.call(native)
        if pauses.random() < 0.2:
            time.sleep(pauses.random() * 0.003)
        last = [[8], []]  # it answers nothing, and may be one that waits to leave with others
        end.exchange(last[rank], last[1 - rank])
    print(json.dumps({"turns": turn, "untold": end.transport.untold}), flush=True)
    sys.stdin.readline()
    end.transport.close()


class Worker:
    """A worker as the test sees it. What it says goes into a file, so that reading it never waits."""

    def __init__(self, given, path):
        self.path = path
        with open(path, "wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(given)],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
            )

    @property
    def said(self):
        """Its lines that are complete."""
        return [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self):
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


@contextlib.contextmanager
def workers(config, seed, folder):
    keys = [[key.decode() for key in zmq.curve_keypair()] for _ in range(2)]
    started = []
    try:
        for rank in range(2):
            given = [rank, config, keys, str(folder), seed]
            started.append(Worker(given, folder / f"said-{rank}"))
        yield started
    finally:
        for each in started:
            each.close()


def complain(both, why):
    """Fail with what both have said, and where those are that still run."""
    running = [(each, len(each.said)) for each in both if each.process.poll() is None]
    for each, _ in running:
        each.process.send_signal(signal.SIGUSR1)
    until = time.monotonic() + 10
    while time.monotonic() < until and any(len(each.said) == lines for each, lines in running):
        time.sleep(0.05)
    time.sleep(0.2 if running else 0.0)  # the rest of it
    raise AssertionError("\n".join((why, *(f"worker {rank}: {''.join(each.said)}" for rank, each in enumerate(both)))))


def until_said(both, lines, until, meanwhile):
    """Wait until both have said so many lines."""
    while not all(len(each.said) >= lines for each in both):
        if any(each.process.poll() is not None for each in both):
            complain(both, "a worker has ended too early")
        if time.monotonic() > until:
            complain(both, f"all together took more than {ALL_S:g} s")
        meanwhile()


def stops(config, seed, folder):
    """Let two workers talk, and stop them now and then; what each says in the end."""
    chance, until = random.Random(seed), time.monotonic() + ALL_S

    def stop():
        time.sleep(chance.random() ** 2 * 0.1)
        process = chance.choice(both).process
        process.send_signal(signal.SIGSTOP)
        time.sleep(chance.random() ** 3 * 0.3)
        process.send_signal(signal.SIGCONT)

    with workers(config, seed, folder) as both:
        until_said(both, 1, until, lambda: time.sleep(0.01))
        addresses = [json.loads(each.said[0]) for each in both]
        for each in both:
            each.tell(json.dumps(addresses))
        until_said(both, 2, until, lambda: time.sleep(0.01))
        for each in both:
            each.tell("go")
        until_said(both, 3, until, stop)
        found = [each.said[2] for each in both]
        if not all(line.startswith("{") for line in found):
            for each in both:  # one that fails says more than a line
                with contextlib.suppress(subprocess.TimeoutExpired):
                    each.process.wait(2)
            complain(both, "a worker has failed")
        for each in both:
            each.tell("")
        for each in both:
            assert each.process.wait(60) == 0, each.said
    return [json.loads(line) for line in found]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"same_host": "tcp"}, id="curve"),
        pytest.param({"same_host": "tcp", "plain": True}, id="plain"),
        pytest.param({}, id="unix"),
    ],
)
def test_nobody_sleeps_over_a_message_though_processes_stop(config, tmp_path):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    found = stops(config, seed, tmp_path)
    assert [one["turns"] for one in found] == [TURNS, TURNS], found


if __name__ == "__main__":
    worker(*json.loads(sys.argv[1]))
