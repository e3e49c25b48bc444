"""Collectives outlive the groups they were made of; members that mean different things are told."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from twister2.spec.collectives import Call
from twister2.spec.errors import StepAbortedError, StepMismatchError, UserCodeError
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.native_loopback import NativeLoopback


class CountingLoopback(NativeLoopback):
    """Counts the native groups that were closed."""

    closed = 0

    def native(self, members):
        made = super().native(members)
        if made is not None:
            close = made.close

            def counted():
                CountingLoopback.closed += 1
                close()

            made.close = counted
        return made


def test_collectives_live_as_long_as_the_program_has_them():
    CountingLoopback.closed = 0

    def main(env):
        network, call = env.network, Call("allreduce")
        send, receive = np.ones(3), np.zeros(3)
        kept = network.collectives(network.split(0))  # nobody else has the group
        kept.run(call, send, receive)
        for _ in range(3):
            network.collectives(network.split(0)).run(call, send, receive)
        assert network.collectives(kept.group) is kept
        env.barrier()
        receive[:] = 0
        kept.run(call, send, receive)
        assert (receive == 2).all()
        before = CountingLoopback.closed
        env.barrier()
        del kept
        gc.collect()
        network.collectives(network.split(0))
        env.barrier()
        return before

    before = LocalCluster(2, CountingLoopback).run(main)
    assert set(before) <= {2, 3, 4}, "of the three that were dropped, not of the one that is kept"
    assert CountingLoopback.closed >= 8


def test_a_call_under_way_keeps_what_it_needs():
    def main(env):
        network = env.network
        send, receive = np.ones(3), np.zeros(3)
        request = network.collectives(network.split(0)).start(Call("allreduce"), send, receive)
        network.collectives(network.split(0)).run(Call("barrier"))
        gc.collect()
        network.collectives(network.split(0)).run(Call("barrier"))
        request.wait(5.0)
        return receive.tolist()

    assert LocalCluster(2, CountingLoopback).run(main) == [[2.0] * 3] * 2


@pytest.mark.parametrize("transport", ["loopback", NativeLoopback])
def test_a_function_is_another_op_than_the_name_it_has(transport):
    def add(left, right):
        return left + right

    add.__name__ = "sum"

    def main(env):
        op = add if env.worker_id else "sum"
        env.network.collectives().run(Call("allreduce", op=op), np.ones(3), np.empty(3))

    with pytest.raises(StepMismatchError):
        LocalCluster(2, transport, deadline_s=10).run(main)


@pytest.mark.parametrize("operation", ["allreduce", "scan", "reduce"])
def test_the_same_array_twice_is_in_place_on_every_road(operation):
    class Strict(NativeLoopback):
        def native(self, members):
            made = super().native(members)
            start = made.start

            def checked(call, send, receive, step, fingerprint):
                assert send is not receive or send is None, "the library must know that it works in place"
                return start(call, send, receive, step, fingerprint)

            made.start = checked
            return made

    def main(env):
        array = np.full(3, env.worker_id + 1.0)
        receive = array if operation != "reduce" or env.worker_id == 0 else None
        call = Call(operation)
        env.network.collectives().run(call, array, receive)
        return array.tolist()

    first, second = LocalCluster(2, Strict).run(main)
    assert first == ([1.0] * 3 if operation == "scan" else [3.0] * 3)
    assert second == ([2.0] * 3 if operation == "reduce" else [3.0] * 3)


def _twice(function):
    return lambda left, right: function(left, right) * 2


class Adding:
    def __call__(self, left, right):
        return left + right

    def method(self, left, right):
        return left + right


class Multiplying:
    def __call__(self, left, right):
        return left * right


PAIRS = {
    "lambdas": (lambda left, right: left + right, lambda left, right: left * right),
    "constants": (lambda left, right: left + right * 2, lambda left, right: left + right * 3),
    "decorated": (_twice(lambda left, right: left + right), _twice(lambda left, right: left * right)),
    "objects": (Adding(), Multiplying()),
}


@pytest.mark.parametrize("objects", [False, True], ids=["arrays", "objects"])
@pytest.mark.parametrize("name", PAIRS)
def test_functions_that_do_different_things_are_told_apart(name, objects):
    def main(env):
        collectives, call = env.network.collectives(), Call("allreduce", op=PAIRS[name][env.worker_id])
        if objects:
            return collectives.run_objects(call, 1)
        return collectives.run(call, np.ones(3), np.empty(3))

    with pytest.raises(StepMismatchError, match="different things"):
        LocalCluster(2, "loopback", deadline_s=10).run(main)


@pytest.mark.parametrize("objects", [False, True], ids=["arrays", "objects"])
def test_functions_that_members_make_by_themselves_are_the_same(objects):
    def main(env):
        me, held = env.worker_id, 0
        makes = [
            [lambda left, right: left + right, lambda left, right: left + right][me],
            Adding(), Adding().method, np.add, lambda left, right: left + right + held,
        ]  # fmt: skip
        for op in makes:
            for _ in range(2):
                collectives, call = env.network.collectives(), Call("allreduce", op=op)
                if objects:
                    assert collectives.run_objects(call, 1) == 2
                else:
                    receive = np.empty(3)
                    collectives.run(call, np.ones(3), receive)
                    assert receive.tolist() == [2.0] * 3

    LocalCluster(2, "loopback", deadline_s=10).run(main)


@pytest.mark.parametrize("waiting", ["wait", "progress", "another call"])
@pytest.mark.parametrize("arrays", [False, True])
def test_what_a_started_call_raises_is_what_is_seen(waiting, arrays):
    """The function raises while the network goes on with the call: not the abort that follows from it."""
    seen = {}

    def main(env):
        collectives = env.network.collectives()
        collectives.run(Call("barrier"))

        def raising(left, right):
            raise ZeroDivisionError("mine")

        call = Call("allreduce", raising)
        try:
            given = (np.ones(3), np.zeros(3))
            request = collectives.start(call, *given) if arrays else collectives.start_objects(call, 1)
            if waiting == "wait":
                request.wait(10)
            elif waiting == "progress":
                while True:
                    env.network.progress()
            else:
                collectives.run_objects(Call("allgather"), 1)
                request.wait(10)
        except Exception as error:
            seen[env.worker_id] = error
            raise

    with pytest.raises(UserCodeError, match="raised ZeroDivisionError") as caught:
        LocalCluster(2, "loopback").run(main)
    assert caught.value.details["worker"] in (0, 1)
    for worker, error in seen.items():
        assert isinstance(error, (UserCodeError, StepAbortedError))
        if isinstance(error, UserCodeError):
            assert error.details["worker"] == worker
    assert any(isinstance(error, UserCodeError) for error in seen.values())
