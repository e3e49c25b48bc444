"""Large collective calls on arrays in memory from ``allocate``, on all, some or none of the members."""

from __future__ import annotations

import random
import select
import time

import numpy as np
import pytest

from twister2.spec.collectives import Call
from twister2_testkit.array_cases import Case

OPERATIONS = (
    "broadcast",
    "allreduce",
    "reduce",
    "reduce_scatter",
    "gather",
    "allgather",
    "scatter",
    "alltoall",
    "scan",
)


def _do(rank, natives, step, case, shared):
    send, receive = case.buffers(rank.id)

    def moved(array):
        if array is None or not shared:
            return array
        there = np.frombuffer(rank.transport.allocate(array.nbytes), array.dtype).reshape(array.shape)
        there[...] = array
        return there

    send, receive = moved(send), moved(receive)
    request = natives.start(case.call(rank.id), send, receive, step, 1000 + step)
    rank.until(lambda: True if request.test() else None, str(case))
    case.check(rank.id, send, receive)
    if send is not None:
        send[...] = 0  # it is this member's again
    if receive is not None:
        receive[...] = 0


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("who", ["all", "some", "in turns"])
def test_answers_are_right_wherever_arrays_lie(make_world, size, who):
    seed = random.randrange(1 << 30)
    print("seed", seed)

    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        natives = rank.transport.native(list(range(size)))
        chance, step = random.Random(seed), 0
        for turn in range(2):
            for operation in OPERATIONS:
                step += 1
                shared = who == "all" or (rank.id == turn % size if who == "some" else (turn + step) % 2 == 0)
                n = chance.choice((9000, 70_001, 300_000))
                root = chance.randrange(size) if operation in ("broadcast", "reduce", "gather", "scatter") else 0
                _do(rank, natives, step, Case(operation, size, n, root=root, seed=seed + step), shared)
                if chance.random() < 0.2 and rank.id == step % size:
                    time.sleep(0.005)

    make_world(size, timeout_s=40.0).run(body)


def test_arrays_without_dimensions_are_arrays_too(make_world):
    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        natives = rank.transport.native([0, 1])

        def did(step, call, send, receive):
            request = natives.start(call, send, receive, step, step)
            rank.until(lambda: True if request.test() else None, call.operation)
            return receive

        mine = np.array(rank.id + 1.0)
        assert did(1, Call("allreduce"), mine, np.empty(())) == 3
        assert did(2, Call("scan"), mine, np.empty(())) == (1, 3)[rank.id]
        assert did(3, Call("broadcast", root=1), None, mine.copy()) == 2
        assert did(4, Call("allgather"), mine, np.empty(2)).tolist() == [1, 2]
        assert did(5, Call("scatter"), None if rank.id else np.array([5.0, 6.0]), np.empty(())) == 5 + rank.id
        rank.sync("end of test")

    make_world(2).run(body)


def test_who_sleeps_has_nothing_to_do_until_it_is_woken(make_world):
    """A caller that spins for as long as progress says that something moved must get to sleep."""

    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        if rank.id == 0:
            until = time.monotonic() + 20.0
            while rank.transport.progress():
                assert time.monotonic() < until
            assert not any(rank.transport.progress() for _ in range(200))
        rank.sync("asleep", progress=False)
        if rank.id == 1:
            rank.send(0, [b"wake"])
        else:
            assert select.select([rank.transport.wait_fd()], [], [], 20.0)[0]
            assert bytes(rank.receive().frames[0]) == b"wake"
        rank.sync("end of test")

    make_world(2).run(body)


def test_a_sleeping_member_is_woken_by_a_collective_call(make_world):
    def body(rank):
        rank.reach_all()
        natives = rank.transport.native([0, 1])
        poller = select.poll()
        poller.register(rank.transport.wait_fd(), select.POLLIN)
        slept = 0
        for step in range(1, 21):
            for n in (10, 200_000):
                rank.sync("next")
                if rank.id == 0:
                    time.sleep(0.03)  # the other most likely sleeps by then
                request = natives.start(
                    Call("allreduce"), np.full(n, 1.0), receive := np.empty(n), 2 * step + (n > 10), 9
                )
                deadline = time.monotonic() + 20
                while not request.test():
                    assert time.monotonic() < deadline
                    if not rank.transport.progress() and not request.test():
                        slept += 1
                        assert poller.poll(15_000), "nobody rang the bell"
                assert (receive == 2).all()
        return slept

    slept = make_world(2).run(body)
    assert slept[1] >= 5, "this test has shown little"
