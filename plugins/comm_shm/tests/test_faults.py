"""Workers that die, short memory, strangers at the socket: an error or the right answer, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import time
from pathlib import Path

import attrs
import numpy as np
import pytest

from twister2.spec.collectives import Call
from twister2.spec.errors import NetworkError
from twister2_comm_shm import meeting
from twister2_comm_shm.collectives import group as _group  # noqa: F401 - imported before limits are set
from twister2_comm_shm.config import ShmConfig
from twister2_comm_shm.transport import ShmTransport
from twister2_testkit.comm_messages import pattern
from twister2_testkit.comm_world import Died, RankFailedError, World
from twister2_testkit.ops_spill import small_disk

pytestmark = pytest.mark.faults


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _send_small(rank):
    while True:
        rank.transport.isend(0, [b"x" * 100])


def _send_large(rank):
    while True:
        rank.transport.isend(0, [bytes(3 << 20)])


def _read(rank, count):
    """So many messages, or as many as came before their sender died, which may be at any time."""
    for _ in range(count):
        if rank.until(lambda: rank.transport.receive() or rank.transport._peers[1].gone or None, "a message") is True:
            return


def _hold_leases(rank):
    kept = [rank.receive() for _ in range(3)]
    assert len(kept) == 3
    _die()


def _in_a_collective(rank, n):
    natives = rank.transport.native([0, 1])
    send, receive = np.ones(n), np.empty(n)
    step = 0
    while True:
        step += 1
        request = natives.start(Call("allreduce"), send, receive, step, 7)
        while not request.test():
            if rank.id == 0 and rank.transport._peers[1].gone:
                return
            rank.transport.progress()


def _forming_a_group(rank):
    if rank.id == 1:
        _die()
    rank.transport.native([1, 0])


PHASES = {
    "not yet reached": (lambda rank: _die(), lambda rank: time.sleep(0.1)),
    "idle": (lambda rank: (rank.reach_all(), time.sleep(0.1), _die()), lambda rank: rank.reach_all()),
    "sending small ones": (_send_small, lambda rank: _read(rank, 50)),
    "sending large ones": (_send_large, lambda rank: _read(rank, 5)),
    "holding leases": (_hold_leases, lambda rank: [rank.send(1, [bytes(1 << 20)]) for _ in range(5)]),
    "a small collective": (lambda rank: _in_a_collective(rank, 10), lambda rank: _in_a_collective(rank, 10)),
    "a collective of middling size": (
        lambda rank: _in_a_collective(rank, 100_000),
        lambda rank: _in_a_collective(rank, 100_000),
    ),
    "a large collective": (lambda rank: _in_a_collective(rank, 1 << 20), lambda rank: _in_a_collective(rank, 1 << 20)),
    "forming a group": (_forming_a_group, _forming_a_group),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_peer_leaves_nothing_and_stops_nobody(make_world, shared_in_use, phase):
    dies, lives = PHASES[phase]

    def body(rank):
        if phase != "not yet reached":
            rank.reach_all()
        if rank.id == 1:
            if phase not in ("not yet reached", "idle", "holding leases", "forming a group"):
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, 0.15)  # dies of it wherever it is
            dies(rank)
        with contextlib.suppress(NetworkError):
            lives(rank)
        until = time.monotonic() + 2
        while not rank.transport._peers[1].gone and time.monotonic() < until:
            rank.transport.progress()
            time.sleep(0.001)
        began = time.monotonic()
        rank.transport.close(deadline_s=20.0)
        assert time.monotonic() - began < 15, "close waits for nobody"
        return shared_in_use(rank)

    found, died = make_world(2, close=False).run(body)
    assert isinstance(died, Died)
    descriptors, _, files = found
    assert descriptors == []
    assert files == []


def test_an_abort_ends_the_wait_for_a_group(make_world):
    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        if rank.id == 0:
            began = time.monotonic()
            context = attrs.evolve(rank.context, aborted=lambda: time.monotonic() > began + 0.2)
            rank.transport._context = context
            with pytest.raises(NetworkError, match="aborted"):
                rank.transport.native([1, 0])
            assert time.monotonic() - began < 20
            rank.transport._context = rank.context
        rank.sync("end of test")

    make_world(2).run(body)


def test_closed_groups_are_forgotten(make_world):
    def body(rank):
        rank.reach_all()
        for _ in range(3):
            rank.sync("reached")
            rank.transport.native([0, 1]).close()
        rank.sync("end of test")
        return len(rank.transport._groups)

    assert make_world(2).run(body) == [0, 0]


def test_a_dead_peer_is_an_error_for_what_goes_to_it_only(make_world, monkeypatch):
    monkeypatch.setattr("twister2_comm_shm.peer.GRACE_S", 0.3)

    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        if rank.id == 1:
            _die()
        began = time.monotonic()

        def send_for_ever():
            while True:
                rank.transport.isend(1, [b"x"])
                rank.transport.progress()

        with pytest.raises(NetworkError, match="worker 1") as caught:
            send_for_ever()
        assert caught.value.details["left"] == 1, "so the core waits for what the master says of it"
        assert 0.3 <= time.monotonic() - began < 20
        if rank.id == 0:
            rank.send(2, [b"still here"])
        else:
            assert bytes(rank.receive().frames[0]) == b"still here"
        rank.sync("done")

    make_world(3, close=False).run(body)


@pytest.mark.parametrize("limit", ["address space", "size of files"])
def test_too_little_memory_is_a_clear_error(make_world, limit):
    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        if rank.id == 0:
            if limit == "address space":
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20),) * 2)
            else:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20,) * 2)
            rank.send(1, [b"small"])
            with pytest.raises(NetworkError, match="shared memory") as caught:
                rank.send(1, [bytearray(8 << 20)])
            assert "pool_bytes" in caught.value.remedy
            assert rank.transport.allocate(64 << 20) is None
            rank.send(1, [b"still there"])
        else:
            assert bytes(rank.receive().frames[0]) == b"small"
            assert bytes(rank.receive().frames[0]) == b"still there"
        rank.sync("done")

    make_world(2, close=False).run(body)


def _allow_descriptors(more):
    """Let this process have so many more descriptors; filled up first, so that no gap below them is left.

    Returns how many it has.
    """
    highest = max(map(int, os.listdir("/proc/self/fd")))
    for fd in [os.open("/dev/null", os.O_RDONLY) for _ in range(highest)]:
        if fd > highest:
            os.close(fd)
    n_open = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + more, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return n_open


@pytest.mark.parametrize("what", ["a ring", "a segment", "a group"])
def test_a_descriptor_that_does_not_fit_is_a_clear_error(make_world, what):
    def body(rank):
        rank.reach_all()
        if what == "a segment" and rank.id == 0:
            rank.send(1, [b"makes the ring"])
        if what == "a segment" and rank.id == 1:
            rank.receive()
        rank.sync("reached")
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)
        if rank.id == 1:
            before = _allow_descriptors(0)
        rank.sync("limited", progress=False)
        if rank.id == 0:
            if what == "a group":
                rank.transport.native([0, 1])
            else:
                rank.send(1, [b"small" if what == "a ring" else bytes(1 << 20)])
        else:
            with pytest.raises(NetworkError, match="descriptors") as caught:
                rank.transport.native([0, 1]) if what == "a group" else rank.receive()
            assert "ulimit -n" in caught.value.remedy
            resource.setrlimit(resource.RLIMIT_NOFILE, soft)
            assert len(os.listdir("/proc/self/fd")) == before
        rank.sync("done", progress=False)

    make_world(2, close=False).run(body)


def test_with_few_descriptors_it_works_or_says_so():
    worked = []
    for more in range(24):

        def make(context, more=more):
            if context.rank == 1:
                _allow_descriptors(more)
            return ShmTransport(ShmConfig(), context)

        def talk(rank):
            (peer,) = rank.others
            rank.until(lambda: rank.transport.reaches(peer) or None, "the other one")
            rank.send(peer, [bytes(1 << 20)])
            rank.receive()
            group = rank.transport.native([0, 1])
            request = group.start(Call("allreduce"), np.ones(1 << 16), np.empty(1 << 16), 1, 7)
            rank.until(lambda: request.test() or None, "a collective")

        def body(rank):
            # worker 0 may see that the other one has ended before anybody is told why
            with contextlib.suppress(NetworkError) if rank.id == 0 else contextlib.nullcontext():
                talk(rank)
            rank.sync("done", progress=False)

        try:
            World(2, make, processes=True, timeout_s=30.0).run(body)
            worked.append(more)
        except RankFailedError as error:
            said = str(error)
        else:
            continue
        assert "ulimit -n" in said, f"with {more} more: {said}"
        assert "worker 1 failed" in said, f"with {more} more: {said}"
    assert worked == list(range(24 - len(worked), 24)), "the more the better"
    assert 0 < len(worked) < 24


def test_without_memfd_unlinked_files_do(make_world, monkeypatch, shared_in_use):
    monkeypatch.delattr(os, "memfd_create")

    def body(rank):
        rank.reach_all()
        for size in (10, 100_000, 5 << 20):
            if rank.id == 0:
                rank.send(1, [pattern(size, size)])
            else:
                assert rank.receive().frames[0] == pattern(size, size)
        rank.sync("done")
        return shared_in_use(rank)[2]

    assert make_world(2).run(body) == [[], []]


@pytest.mark.needs_mount
def test_unlinked_files_on_a_full_disk_are_a_clear_error(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    with small_disk(1) as disk:
        os.chmod(disk, 0o700)

        def make(context):
            return ShmTransport(ShmConfig(), attrs.evolve(context, runtime_dir=disk))

        def body(rank):
            rank.reach_all()
            rank.sync("reached")
            if rank.id == 0:
                rank.send(1, [b"small"])
                with pytest.raises(NetworkError, match="No space left") as caught:
                    rank.send(1, [bytes(1 << 20)])
                assert disk in str(caught.value)
                assert rank.transport.allocate(1 << 20) is None
                with pytest.raises(NetworkError, match="No space left") as caught:
                    rank.transport.native([0, 1])
                assert disk in str(caught.value)
                rank.send(1, [b"still there"])
            else:
                assert bytes(rank.receive().frames[0]) == b"small"
                assert bytes(rank.receive().frames[0]) == b"still there"
            rank.sync("done")

        World(2, make, processes=True, timeout_s=30.0).run(body)
        assert os.listdir(disk) == []
        assert shutil.disk_usage(disk).used <= 1 << 14, "nameless files are gone, too"


def test_too_little_memory_for_a_group_is_a_clear_error(make_world):
    """The first member makes the memory of all."""

    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        if rank.id == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20,) * 2)
            with pytest.raises(NetworkError, match="shared memory") as caught:
                rank.transport.native([0, 1])
            assert "too large" in caught.value.why
        rank.sync("done")

    make_world(2, close=False).run(body)


def test_strangers_are_turned_away(make_world):
    def body(rank):
        if rank.id == 1:
            path = rank.addresses[0]["path"]
            wrong = [
                b"",
                b"hello",
                bytes(64),
                meeting._NOTE.pack(b"T2meet1\0", 0, 2, 1, 1, bytes(16), 0, 4096),
                meeting._NOTE.pack(b"T2meet1\0", 0, 2, 9, 1, meeting.session_of(rank.context), 0, 4096),
                meeting._NOTE.pack(b"T2meet1\0", 0, 7, 1, 1, meeting.session_of(rank.context), 0, 4096),
            ]
            for data in wrong:
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
                    stranger.connect(path)
                    socket.send_fds(stranger, [data], [stranger.fileno()])
        rank.sync("strangers came", progress=False)
        if rank.id == 2:
            time.sleep(0.1)
        rank.reach_all()
        if rank.id == 0:
            rank.until(lambda: True if rank.transport.refused >= 5 else None, "strangers to be turned away")
        rank.sync("done")
        return rank.transport.refused

    refused = make_world(3).run(body)
    assert refused[0] >= 5
    assert refused[1:] == [0, 0]


def test_a_peer_without_the_folder_is_known_at_once_not_to_be_reached(make_world):
    """Two containers on one host: the address is there, the folder is not."""

    def body(rank):
        if rank.id == 0:
            os.rename(rank.addresses[1]["path"], rank.addresses[1]["path"] + ".away")
            rank.transport.connect({**rank.addresses, 1: {**rank.addresses[1], "path": "/nowhere/s1-1"}})
            began = time.monotonic()
            assert rank.until(lambda: rank.transport.reaches(1), "a probe") is False
            assert time.monotonic() - began < 4
            with pytest.raises(NetworkError, match="worker 1"):
                rank.transport.isend(1, [b"x"])
        rank.sync("done", progress=False)

    make_world(2, close=False).run(body)
