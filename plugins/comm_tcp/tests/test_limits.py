"""Few descriptors: what fits runs, what does not is an error of ours, and libzmq never ends the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, resource, sys, tempfile, time

import attrs
import zmq

from twister2.spec.comm import TransportContext
from twister2.spec.environment import NodeFacts
from twister2.spec.errors import ResourceError
from twister2_comm_tcp.config import TcpConfig
from twister2_comm_tcp.transport import TcpTransport

size, claimed, free, patience = map(int, sys.argv[1:5])
same_host, folder = sys.argv[5:]
keys = [tuple(key.decode() for key in zmq.curve_keypair()) for _ in range(size)]
public = {rank: pair[0] for rank, pair in enumerate(keys)}


def transport(rank):
    return TcpTransport(TcpConfig(same_host=same_host), TransportContext(
        job_id="job", attempt=1, rank=rank, size=claimed, node=NodeFacts("host"), runtime_dir=folder, session="session",
        curve_public=keys[rank][0], curve_secret=keys[rank][1], peer_keys=public, aborted=lambda: False,
    ))


def talk(rank, addresses, own):
    own.connect(addresses)
    others = set(range(size)) - {rank}
    reached, heard = set(), set()
    until = time.monotonic() + patience
    while reached != others or heard != others:
        assert time.monotonic() < until, (rank, reached, heard)
        for peer in others - reached:
            if own.reaches(peer) and own.isend(peer, [b"hello"]) is not None:
                reached.add(peer)
        own.progress()
        while (message := own.receive()) is not None:
            heard.add(message.peer)
    print("talked")
    own.close()


# each rank in a process of its own: descriptors are the process's
pipes = [os.pipe() for _ in range(size)]
gates = [os.pipe() for _ in range(size)]
children = []
for rank in range(size):
    pid = os.fork()
    if pid == 0:
        there = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (there + free, there + free))
        code = 1
        try:
            own = transport(rank)
            os.write(pipes[rank][1], repr(own.open()).encode())
            addresses = eval(os.read(gates[rank][0], 1 << 16))
            talk(rank, addresses, own)
            code = 0
        except ResourceError as error:
            print(error)
            code = 3
        finally:
            sys.stdout.flush()
            os._exit(code)
    children.append(pid)
for _, end in pipes:
    os.close(end)
said = [os.read(pipe[0], 1 << 16) for pipe in pipes]
if all(said):
    addresses = {rank: eval(text) for rank, text in enumerate(said)}
    for gate in gates:
        os.write(gate[1], repr(addresses).encode())
for gate in gates:
    os.close(gate[1])
print("codes", sorted({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children}))
"""


def run(tmp_path, size: int, free: int, same_host: str, *, claimed: int = 0, patience: int = 60) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, (size, claimed or size, free, patience, same_host, tmp_path))],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.parametrize("same_host", ["ipc", "tcp"])
def test_what_fits_runs(tmp_path, same_host):
    """Nine that all talk to each other: some ten descriptors, and three for each of eight peers."""
    said = run(tmp_path, 9, 72, same_host)
    assert "codes [0]" in said, said
    assert said.count("talked") == 9


@pytest.mark.parametrize("same_host", ["ipc", "tcp"])
def test_transports_that_talk_to_few_need_few(tmp_path, same_host):
    """The number of workers alone is no reason to refuse."""
    said = run(tmp_path, 2, 40, same_host, claimed=500)
    assert "codes [0]" in said, said


@pytest.mark.parametrize("free", [17, 21, 25, 30, 36])
def test_a_peer_that_is_one_too_many_is_an_error(tmp_path, free):
    said = run(tmp_path, 9, free, "tcp", patience=8)
    codes = set(eval(said.rpartition("codes ")[2]))
    assert 3 in codes, said
    assert min(codes) >= 0, "libzmq has ended a process"
    assert "too few descriptors are left to talk to worker" in said


def test_a_transport_that_cannot_open_says_so(tmp_path):
    said = run(tmp_path, 1, 15, "ipc")
    assert "codes [3]" in said, said
    assert "too few descriptors are left to open the transport" in said
    assert "ulimit -n" in said
