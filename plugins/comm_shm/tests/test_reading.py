"""Large arrays that members read where they lie, in each other's own memory: only while that is sure to be right."""

from __future__ import annotations

import contextlib
import os
import signal

import numpy as np
import pytest

from twister2.spec.collectives import Call
from twister2.spec.errors import NetworkError
from twister2_comm_shm.collectives import group as _group
from twister2_comm_shm.collectives import staged, windows
from twister2_testkit.comm_world import Died

N = 600_000
"""Numbers of an array that is read where it lies, whatever the call."""


def _permitted():
    """Whether a process may read another one that is not its child: not under Yama's scope 1, or without Linux."""
    if windows.system_call is None:
        return False
    there = np.arange(8)
    above = os.getpid()
    child = os.fork()
    if not child:
        here, found = np.zeros(8, int), windows._Window(above)
        for part, array in ((found.here[0], here), (found.there[0], there)):
            part.start, part.n_bytes = array.ctypes.data, array.nbytes
        os._exit(0 if found.read(there.nbytes) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


pytestmark = pytest.mark.skipif(not _permitted(), reason="this system lets no process read another one's memory")


@pytest.fixture
def made(monkeypatch):
    """A function that makes a group on all ranks, after the call in which its members try to read each other."""
    monkeypatch.setattr(staged, "_READ_FROM", 8 * N)

    def make(rank):
        rank.reach_all()
        rank.sync("reached")
        natives = rank.transport.native(list(range(len(rank.others) + 1)))
        _scatter(rank, natives, 1, 0.5)
        rank.sync("tried")
        assert natives.windows.clear(), "this system permits it among processes of one user"
        return natives

    return make


def _scatter(rank, natives, step, value):
    send, receive = (np.full(natives.size * N, value) if rank.id == 0 else None), np.zeros(N)
    request = natives.start(Call("scatter"), send, receive, step, 7)
    rank.until(lambda: True if request.test() else None, "a scatter")
    assert (receive == value).all()


def _count(natives):
    seen = []
    read = natives.windows.read
    natives.windows.read = lambda *given: (seen.append(given[0]), read(*given))[1]
    return seen


@pytest.mark.parametrize("size", [2, 3])
def test_large_arrays_are_read_where_they_lie(make_world, made, size):
    def body(rank):
        natives = made(rank)
        seen = _count(natives)
        send, receive = np.full(N, rank.id + 1.0), np.zeros(size * N)
        request = natives.start(Call("allgather"), send, receive, 2, 7)
        rank.until(lambda: True if request.test() else None, "an allgather")
        assert (receive.reshape(size, N) == np.arange(1, size + 1)[:, None]).all()
        assert sorted(set(seen)) == rank.others
        rank.sync("answers")

    make_world(size).run(body)


@pytest.mark.parametrize("operation", ["allgather", "alltoall", "broadcast"])
def test_arrays_of_middling_size_go_through_the_stages_where_all_copy_at_once(make_world, made, operation):
    """To look up their pages would take the system longer than both copies."""
    size, n = 3, 150_000

    def body(rank):
        natives = made(rank)
        seen = _count(natives)
        for step in range(2, 5):
            send, receive = np.arange(n) + 1000.0 * rank.id + step, np.zeros(size * n)
            wanted = np.concatenate([np.arange(n) + 1000.0 * other + step for other in range(size)])
            if operation == "alltoall":
                send = np.concatenate([send + 0.25 * other for other in range(size)])
                wanted += 0.25 * rank.id
            elif operation == "broadcast":
                receive, wanted = (send.copy() if rank.id == 0 else np.zeros(n)), np.arange(n) + 0.0 + step
            given = None if operation == "broadcast" else send
            request = natives.start(Call(operation), given, receive, step, 7)
            rank.until(lambda request=request: True if request.test() else None, operation)
            assert (receive == wanted).all()
        assert seen == []
        rank.sync("answers")

    make_world(size).run(body)


def test_one_member_that_may_not_read_is_enough_for_all_to_use_the_stages(make_world):
    def body(rank):
        if rank.id == 1:
            windows.system_call = lambda *given: -1
        rank.reach_all()
        rank.sync("reached")
        natives = rank.transport.native([0, 1, 2])
        _scatter(rank, natives, 1, 0.5)
        assert natives.windows.sees == (rank.id != 1)
        seen = _count(natives)
        for step in range(2, 6):
            _scatter(rank, natives, step, float(step))
        assert seen == []
        rank.sync("answers")

    make_world(3).run(body)


def test_an_array_that_others_could_not_read_goes_through_the_stage(make_world, made):
    def body(rank):
        natives = made(rank)
        natives.windows.readable = lambda start, n_bytes: False
        seen = _count(natives)
        _scatter(rank, natives, 2, 3.0)
        assert seen == []
        rank.sync("answers")

    make_world(3).run(body)


def test_what_is_readable(make_world, made):
    def body(rank):
        array = np.ones(N)
        readable = made(rank).windows.readable
        assert readable(array.ctypes.data, array.nbytes)
        assert not readable(8, 16), "nothing lies there"
        rank.sync("answers")

    make_world(2).run(body)


def _late_reader(rank, natives, end):
    """Rank 1 gives an array and comes to its ``end``; rank 0 comes to the call only then."""
    call, array, receive = Call("scatter", root=1), np.full(2 * N, 2.0), np.zeros(N)
    if rank.id == 1:
        request = natives.start(call, array, receive, 2, 7)
        assert not request.test()
        end(array)
        return
    _group.GRACE_S = 0.3
    request = natives.start(call, None, receive, 2, 7)
    with pytest.raises(NetworkError, match="the memory of worker 1 cannot be read"):
        rank.until(lambda: True if request.test() else None, "a call whose giver has not taken part to its end")


def test_a_giver_that_was_killed_is_an_error_after_a_while(make_world, made):
    def body(rank):
        natives = made(rank)
        rank.sync("made")
        if rank.id == 0:
            while not rank.transport._peers[1].gone:
                rank.transport.progress()
        _late_reader(rank, natives, lambda array: os.kill(os.getpid(), signal.SIGKILL))

    _, died = make_world(2, close=False).run(body)
    assert isinstance(died, Died)


def test_nothing_is_taken_that_was_read_after_its_giver_had_given_up(make_world, made):
    def body(rank):
        natives = made(rank)

        def give_up(array):
            rank.sync("reads")
            natives.close()
            array[:] = -1
            rank.sync("given up")
            rank.sync("read")

        if rank.id == 0:
            read, times = natives.windows.read, []

            def late(*given):
                if not times:  # within a call: what is under way does not go on meanwhile
                    rank.sync("reads", progress=False)
                    rank.sync("given up", progress=False)
                times.append(read(*given))
                return times[-1]

            natives.windows.read = late
        _late_reader(rank, natives, give_up)
        if rank.id == 0:
            assert times[0], "the array was there still"
            rank.sync("read")

    make_world(2, close=False).run(body)


def test_another_process_with_that_number_is_not_taken_for_the_member(make_world, made):
    def body(rank):
        natives = made(rank)
        if rank.id == 0:
            # these processes were forked from one, and have things at the same addresses
            natives.windows._others[1]._pid = os.getpid()
        _late_reader(rank, natives, lambda array: rank.sync("read"))
        if rank.id == 0:
            rank.sync("read")

    make_world(2, close=False).run(body)


@pytest.mark.parametrize("operation", ["allgather", "alltoall"])
def test_a_member_killed_anywhere_while_others_read(make_world, made, operation):
    """The last call that ends has the right answer."""

    def body(rank):
        natives = made(rank)
        _group.GRACE_S = 0.3
        send, receive = np.zeros(2 * N), np.zeros(4 * N if operation == "allgather" else 2 * N)
        if rank.id == 1:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, 0.15)  # dies of it wherever it is
        for step in range(2, 1_000_000):
            send[:], receive[:] = step, 0
            request = natives.start(Call(operation), send, receive, step, 7)
            with contextlib.suppress(NetworkError):
                while not request.test():
                    rank.transport.progress()
                    if rank.transport._peers[1 - rank.id].gone and not request.test():
                        return step
                assert (receive == step).all()
                continue
            return step
        return 0

    found, died = make_world(2, close=False).run(body)
    assert isinstance(died, Died)
    assert found > 1
