"""The tcp transport against a bare pyzmq program over the same kind of socket, in turns, in the same run.

``python benchmarks/micro/transport.py [--kinds ipc,tcp,curve] [--rounds 5] [--csv]``

Two processes. *stream*: messages of one size go one way, the last is answered; *ping-pong*: 8 bytes there and back. The
bare program is a PAIR socket on each side that blocks in ``recv``; the transport is called the way the network module
calls it: it polls for at most 50 us, then sleeps in the kernel on its descriptor. For ``curve`` both are encrypted by
CurveZMQ.
Figures are medians over rounds; the ratio is the transport's figure by the bare
program's, and that of the best rounds, for machines that are busy with other things.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import select
import shutil
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

import zmq

from twister2.spec.comm import TransportContext
from twister2.spec.environment import NodeFacts
from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.transport import TcpTransport

if TYPE_CHECKING:
    from collections.abc import Callable

SPIN_S = 50e-6
MESSAGES = {8: 20_000, 64: 40_000, 1 << 10: 20_000, 1 << 16: 4_000, 1 << 20: 1_000, 16 << 20: 60}
PING_PONGS = 2000


class Bare:
    """A PAIR socket."""

    def __init__(self, rank: int, kind: str, folder: str, keys: list[tuple[bytes, bytes]], port: int) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PAIR)
        self.socket.set_hwm(10_000)
        if kind == "curve":
            self.socket.curve_publickey, self.socket.curve_secretkey = keys[rank]
            if rank == 0:
                self.socket.curve_server = True
            else:
                self.socket.curve_serverkey = keys[0][0]
        where = f"ipc://{folder}/bare" if kind == "ipc" else f"tcp://127.0.0.1:{port}"
        (self.socket.bind if rank == 0 else self.socket.connect)(where)

    def send(self, data: bytes) -> None:
        """One message."""
        self.socket.send(data, copy=len(data) < 1 << 16)

    def receive(self, size: int) -> Any:
        """One message."""
        if size < 1 << 16:
            return self.socket.recv()
        return self.socket.recv(copy=False).buffer

    def close(self) -> None:
        """The end."""
        self.socket.close()
        self.context.term()


class Ours:
    """The transport, called as the network module calls it."""

    def __init__(
        self, rank: int, kind: str, folder: str, keys: list[tuple[bytes, bytes]], pipe: Any, make: Any = None
    ) -> None:
        self.peer = 1 - rank
        context = TransportContext(
            job_id="bench",
            attempt=1,
            rank=rank,
            size=2,
            node=NodeFacts("localhost", ("127.0.0.1",), boot_id="one"),
            runtime_dir=folder,
            session="bench",
            curve_public=keys[rank][0].decode(),
            curve_secret=keys[rank][1].decode(),
            peer_keys={number: key[0].decode() for number, key in enumerate(keys)},
            aborted=lambda: False,
        )
        config = TcpConfig(same_host="ipc" if kind == "ipc" else "tcp", plain=kind == "tcp")
        self.transport = TcpTransport(config, context) if make is None else make(context)
        address = self.transport.open()
        pipe.send(address)
        other = pipe.recv()
        self.transport.connect({rank: address, self.peer: other})
        while self.transport.reaches(self.peer) is None:
            time.sleep(0.001)
        assert self.transport.reaches(self.peer)
        self.poller = select.poll()
        descriptor = self.transport.wait_fd()
        assert descriptor is not None
        self.poller.register(descriptor, select.POLLIN)

    def send(self, data: Any) -> None:
        """One message."""
        while self.transport.isend(self.peer, [data]) is None:
            if not self.transport.progress():
                self.poller.poll(1)

    def receive(self, size: int) -> Any:
        """One message."""
        transport = self.transport
        spin_until = 0.0
        while (received := transport.receive()) is None:
            if not transport.progress():
                now = time.perf_counter()
                if not spin_until:
                    spin_until = now + (SPIN_S if transport.spins else 0.0)
                elif now > spin_until:
                    self.poller.poll(100)
        return received.frames[0]

    def close(self) -> None:
        """The end."""
        self.transport.close()


def stream(end: Bare | Ours, rank: int, size: int, count: int) -> float:
    """Messages per second."""
    data = bytes(size)
    begin = time.perf_counter()
    if rank == 0:
        for _ in range(count):
            end.send(data)
        end.receive(1)
    else:
        for _ in range(count):
            end.receive(size)
        end.send(b"k")
    return count / (time.perf_counter() - begin)


def ping_pong(end: Bare | Ours, rank: int, size: int, count: int) -> float:
    """Median round trip in microseconds."""
    data = bytes(size)
    took = []
    for _ in range(count):
        begin = time.perf_counter()
        if rank == 0:
            end.send(data)
            end.receive(size)
        else:
            end.receive(size)
            end.send(data)
        took.append(time.perf_counter() - begin)
    return statistics.median(took) * 1e6


def run(rank: int, kind: str, folder: str, keys: list[tuple[bytes, bytes]], pipe: Any, sizes: list[int], n: int) -> Any:
    """Both contestants in turns; results by (what, size): list of (bare, ours)."""
    port = 20_000 + os.getppid() % 20_000 if rank else 20_000 + os.getpid() % 20_000
    bare = Bare(rank, kind, folder, keys, port)
    ours = Ours(rank, kind, folder, keys, pipe)
    results: dict[tuple[str, int], list[tuple[float, float]]] = {}

    def turns(what: str, size: int, one: Callable[[Bare | Ours], float]) -> None:
        for _ in range(n):
            results.setdefault((what, size), []).append((one(bare), one(ours)))

    slow = 4 if kind == "curve" else 1
    for size in sizes:
        turns("stream", size, lambda end, size=size: stream(end, rank, size, MESSAGES[size] // slow))
    turns("ping-pong", 8, lambda end: ping_pong(end, rank, 8, PING_PONGS))
    bare.close()
    ours.close()
    return results


def _other(*arguments: Any) -> None:
    run(1, *arguments)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="ipc,tcp,curve")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default=",".join(map(str, MESSAGES)), help="bytes, of the known ones")
    parser.add_argument("--csv", action="store_true")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",") if size]
    form = "{},{},{},{},{},{}" if arguments.csv else "{:6} {:>18} {:>10} {:>10} {:>6} {:>8}"
    print(form.format("kind", "what", "bare", "ours", "ratio", "of bests"))
    for kind in arguments.kinds.split(","):
        folder = tempfile.mkdtemp(prefix="t2b")
        keys = [zmq.curve_keypair() for _ in range(2)]
        mine, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=_other, args=(kind, folder, keys, theirs, sizes, arguments.rounds)
        )
        process.start()
        try:
            results = run(0, kind, folder, keys, mine, sizes, arguments.rounds)
        finally:
            process.join(10)
            process.kill()
            shutil.rmtree(folder, ignore_errors=True)
        for (what, size), pairs in results.items():
            bare, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
            name, scale = (f"{what} {size} B", 1.0)
            if what == "stream":
                name, scale = (f"{size} B GB/s", size / 1e9) if size >= 1 << 16 else (f"{size} B k/s", 1e-3)
            else:
                name += " us"
            best = max if what == "stream" else min
            bests = [best(column) for column in zip(*pairs, strict=True)]
            ratios = f"{ours / bare:.2f}", f"{bests[1] / bests[0]:.2f}"
            print(form.format(kind, name, f"{bare * scale:.4g}", f"{ours * scale:.4g}", *ratios))


if __name__ == "__main__":
    main()
