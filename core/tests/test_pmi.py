"""PMI-1: the protocol with a made-up client, and real MPI worlds of plain processes without mpiexec."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from twister2.worker.pmi import VALUE_MAX, PmiService, environment, parse, process_mapping


class Client:
    """The process's side, line by line."""

    def __init__(self, service: PmiService) -> None:
        self.service = service
        self.socket = socket.socket(fileno=os.dup(service.process_fd))
        self.socket.settimeout(30)

    def ask(self, line: str) -> tuple[str, dict[str, str]]:
        self.tell(line)
        return self.read()

    def tell(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\n")
        self.service.on_readable()

    def read(self) -> tuple[str, dict[str, str]]:
        answer = self.socket.recv(4096).decode()
        assert answer.endswith("\n")
        return parse(answer)


@pytest.fixture
def fences() -> list[dict[str, str]]:
    return []


@pytest.fixture
def service(fences) -> Iterator[PmiService]:
    made = PmiService(1, 3, "kvs", fences.append, mapping=process_mapping(["a", "a", "b"]))
    yield made
    made.close()


@pytest.fixture
def client(service) -> Iterator[Client]:
    made = Client(service)
    yield made
    made.socket.close()


def test_questions_about_the_world_are_answered(client):
    assert client.ask("cmd=init pmi_version=1 pmi_subversion=1")[1]["rc"] == "0"
    assert client.ask("cmd=get_universe_size")[1]["size"] == "3"
    assert client.ask("cmd=get_my_kvsname")[1]["kvsname"] == "kvs"
    assert client.ask("cmd=get_appnum") == ("appnum", {"rc": "0", "appnum": "0"})
    assert int(client.ask("cmd=get_maxes")[1]["vallen_max"]) == VALUE_MAX
    assert client.ask("cmd=get kvsname=kvs key=PMI_process_mapping")[1]["value"] == "(vector,(0,1,2),(1,1,1))"


def test_a_fence_gathers_puts_and_releases_when_it_is_done(client, service, fences):
    assert client.ask("cmd=put kvsname=kvs key=a value=x=1")[1]["rc"] == "0"
    client.tell("cmd=barrier_in")
    assert fences == [{"a": "x=1"}]
    assert service.in_fence
    client.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.socket.recv(1)
    client.socket.settimeout(30)
    service.fence_done({"a": "x=1", "b": "2"})
    assert client.read()[0] == "barrier_out"
    assert client.ask("cmd=get kvsname=kvs key=b")[1]["value"] == "2"
    client.tell("cmd=barrier_in")
    assert fences[1] == {}, "puts are handed over once"


@pytest.mark.parametrize(
    "line",
    [
        "cmd=get kvsname=kvs key=unknown",
        "cmd=get kvsname=other key=PMI_process_mapping",
        "cmd=put kvsname=other key=a value=b",
        f"cmd=put kvsname=kvs key=a value={'v' * VALUE_MAX}",
        "cmd=put kvsname=kvs value=b",
        "cmd=spawn nprocs=2",
    ],
)
def test_what_cannot_be_done_gets_an_answer_that_says_so(client, line):
    assert client.ask(line)[1]["rc"] == "-1"


def test_a_line_may_come_in_pieces_and_several_at_once(client, service):
    client.socket.sendall(b"cmd=init pmi_version=1 pmi_sub")
    service.on_readable()
    assert not service.initialised
    client.socket.sendall(b"version=1\ncmd=get_appnum\n")
    service.on_readable()
    assert client.socket.recv(4096).count(b"\n") == 2


def test_abort_and_end_are_noticed(client, service):
    client.tell("cmd=abort exitcode=3 message=oops")
    assert service.abort == (3, "oops")
    service.release_process_fd()
    client.socket.close()
    service.on_readable()
    assert service.closed


def test_a_process_that_does_not_read_does_not_block_the_service(client, service):
    for _ in range(20_000):
        client.socket.sendall(b"cmd=get_appnum\n")
        service.on_readable()
        if service.wants_write:
            break
    assert service.wants_write
    while service.wants_write:
        client.socket.recv(1 << 20)
        service.on_writable()


def test_the_environment_drops_what_an_outer_launcher_left():
    inherited = ["PMI_SPAWNED", "PMIX_RANK", "HYDI_CONTROL_FD", "HOME", "MPI_LOCALRANKID"]
    changes = environment(2, 4, 9, inherited)
    assert {name for name, value in changes.items() if value is None} == set(inherited) - {"HOME"}
    assert (changes["PMI_RANK"], changes["PMI_SIZE"]) == ("2", "4")
    assert changes["PMI_FD"] == "9"


PROGRAM = """
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank + 1)
shared = world.Split_type(MPI.COMM_TYPE_SHARED).size
ring = world.sendrecv(b"x" * 300_000, (world.rank + 1) % world.size, 0, source=(world.rank - 1) % world.size)
print(world.rank, world.size, total, shared, len(ring))
"""


def run_world(size: int, program: str, deadline_s: float = 90) -> list[tuple[int, str]]:
    """Exit code and output of each rank of an MPI world of plain processes; the fence exchange is done here."""
    waiting: dict[int, dict[str, str]] = {}
    services: list[PmiService] = []

    def fence_of(rank: int) -> Callable[[dict[str, str]], None]:
        return lambda puts: waiting.__setitem__(rank, puts)

    processes = []
    try:
        for rank in range(size):
            service = PmiService(rank, size, "kvs-1", fence_of(rank), mapping=process_mapping(["here"] * size))
            services.append(service)
            env = dict(os.environ)
            for name, value in environment(rank, size, service.process_fd, env).items():
                env.pop(name, None)
                env.update({name: value} if value is not None else {})
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", program],
                    env=env,
                    pass_fds=[service.process_fd],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            service.release_process_fd()
        deadline = time.monotonic() + deadline_s
        while not all(service.closed for service in services):
            assert time.monotonic() < deadline, f"still in a fence: {sorted(waiting)}"
            for service in select.select([s for s in services if not s.closed], [], [], 0.5)[0]:
                service.on_readable()
            if len(waiting) == size:
                puts = {key: value for each in waiting.values() for key, value in each.items()}
                waiting.clear()
                for service in services:
                    service.fence_done(puts)
        return [(process.wait(60), process.stdout.read()) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
        for service in services:
            service.close()


@pytest.mark.needs_mpi
@pytest.mark.parametrize("size", [1, 2, 4])
def test_plain_processes_become_one_mpi_world(size):
    total = size * (size + 1) // 2
    assert run_world(size, PROGRAM) == [(0, f"{rank} {size} {total} {size} 300000\n") for rank in range(size)]
