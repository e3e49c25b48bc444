"""Collectives on arrays: every operation, algorithm and road gives what numpy gives; wrong calls are told."""

from __future__ import annotations

import time
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.config.job import NetworkConfig
from twister2.spec.collectives import OPERATIONS, OPS, Call
from twister2.spec.errors import DeadlineError, OperatorError, StepAbortedError, StepMismatchError, UserCodeError
from twister2.worker.network.collectives.checking import make_plan
from twister2.worker.network.collectives.choice import ALGORITHMS, EQUAL_ONLY
from twister2_testkit.array_cases import COUNTED, REDUCTIONS, Case
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.loopback import LoopbackTransport
from twister2_testkit.native_loopback import NativeLoopback

CHUNK_BORDERS = (65_535, 65_536, 65_537, 300_001)


@st.composite
def cases(draw):
    operation = draw(st.sampled_from(OPERATIONS))
    size = draw(st.integers(1, 5))
    dtype = draw(st.sampled_from(("int64", "float64", "float32", "float16", "uint8", "complex64", "bool", "int16")))
    ops = OPS if dtype in ("int64", "uint8", "int16", "bool") else ("sum", "prod")
    algorithm = draw(st.sampled_from(("", *ALGORITHMS[operation])))
    counts = None
    if operation in COUNTED and ALGORITHMS[operation].get(algorithm) not in EQUAL_ONLY and draw(st.booleans()):
        counts = tuple(draw(st.lists(st.integers(0, 40), min_size=size, max_size=size)))
    return Case(
        operation,
        size,
        draw(st.one_of(st.integers(0, 9), st.integers(100, 3000), st.sampled_from(CHUNK_BORDERS))),
        dtype,
        draw(st.sampled_from(ops)),
        draw(st.integers(0, size - 1)),
        counts,
        draw(st.booleans()) and operation != "reduce",
        algorithm,
        draw(st.integers(0, 1000)),
    )


def do(env, group, case):
    collectives = env.network.collectives(group)
    send, receive = case.buffers(collectives.rank)
    collectives.run(case.call(collectives.rank), send, receive)
    case.check(collectives.rank, send, receive)


def started(env, group, case):
    collectives = env.network.collectives(group)
    send, receive = case.buffers(collectives.rank)
    return collectives.start(case.call(collectives.rank), send, receive), collectives.rank, case, send, receive


@pytest.mark.timeout(120)
@settings(max_examples=60, deadline=None)
@given(st.lists(cases(), min_size=1, max_size=6), st.sampled_from(("loopback", NativeLoopback)), st.booleans())
def test_answers_are_those_of_numpy(chosen, transport, at_once):
    size = max(case.size for case in chosen)

    def main(env):
        groups = {n: env.network.group(range(n)) for n in range(1, size + 1) if env.worker_id < n}
        opened = []
        for case in chosen:
            if env.worker_id < case.size:
                if at_once:
                    opened.append(started(env, groups[case.size], case))
                else:
                    do(env, groups[case.size], case)
        for request, rank, case, send, receive in reversed(opened):
            request.wait(20)
            assert request.test()
            case.check(rank, send, receive)

    LocalCluster(size, transport).run(main)


@pytest.mark.parametrize("operation", REDUCTIONS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_functions_are_applied_in_the_order_of_ranks(operation, size):
    """2 x 2 matrices under multiplication: associative, not commutative, and not element by element."""

    def product(left, right):
        return (left.reshape(2, 2) @ right.reshape(2, 2)).reshape(4)

    def matrix(rank):
        return np.random.default_rng(rank).integers(-2, 3, 4)

    def folded(last):
        total = matrix(0)
        for rank in range(1, last):
            total = product(total, matrix(rank))
        return total

    def main(env):
        collectives = env.network.collectives()
        rank = collectives.rank
        for algorithm in ("", "tree", "recursive_doubling", "chain", "pairwise"):
            if algorithm and (algorithm not in ALGORITHMS[operation] or (operation, algorithm) == ("reduce", "chain")):
                continue
            for root in range(size) if operation == "reduce" else (0,):
                call = Call(operation, product, root, algorithm=algorithm)
                send, receive = matrix(rank), np.full(4, 99)
                if operation == "reduce_scatter":
                    send = np.concatenate([matrix(rank)] * size)
                collectives.run(call, send, None if operation == "reduce" and rank != root else receive)
                last = {"scan": rank + 1, "exscan": rank}.get(operation, size)
                want = folded(last) if last else np.full(4, 99)
                if operation != "reduce" or rank == root:
                    assert (receive == want).all(), (operation, algorithm, root, rank)

    LocalCluster(size, "loopback").run(main)


@pytest.mark.parametrize("algorithm", ["", *ALGORITHMS["allreduce"]])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_all_members_get_the_same_bits(algorithm, size):
    def main(env):
        random = np.random.default_rng(env.worker_id)
        results = []
        for n in (3, 5000, 200_003):
            send = random.standard_normal(n) * 10.0 ** random.integers(-12, 12, n)
            receive = np.empty(n)
            env.network.collectives().run(Call("allreduce", algorithm=algorithm), send, receive)
            results.append(receive.tobytes())
        return results

    results = LocalCluster(size, "loopback").run(main)
    assert all(result == results[0] for result in results)


class OnOneHost(NativeLoopback):
    """Reaches workers with the same first letter of the layout only."""

    layout = ""

    def __init__(self, context):
        super().__init__(attrs.evolve(context, session=f"{context.session}-host"))

    def reaches(self, peer):
        return self.layout[peer] == self.layout[self._context.rank] and super().reaches(peer)


def on_hosts(layout):
    return LocalCluster(len(layout), (type("Here", (OnOneHost,), {"layout": layout}), LoopbackTransport), hosts=layout)


@pytest.mark.timeout(120)
@settings(max_examples=40, deadline=None)
@given(st.text("ab", min_size=2, max_size=5), st.lists(cases(), min_size=1, max_size=6), st.booleans())
def test_groups_that_span_hosts_get_the_same_answers(layout, chosen, at_once):
    size = len(layout)

    def main(env):
        fitting = [attrs.evolve(case, size=size, root=case.root % size, counts=None, algorithm="") for case in chosen]
        opened = (
            [started(env, None, case) for case in fitting] if at_once else [do(env, None, case) for case in fitting]
        )
        for request, rank, case, send, receive in reversed(opened) if at_once else ():
            request.wait(20)
            case.check(rank, send, receive)
        return env.network.collectives().algorithms("allreduce")[0]

    first = on_hosts(layout).run(main)
    spans = len(set(layout)) == 2
    want = "hosts" if spans and size > 2 else "recursive_doubling" if spans else "native"
    assert first == [want] * size


def outcomes(main, n=2, transport="loopback", **kwargs):
    """What each worker's function raised."""
    seen = {}

    def kept(env):
        try:
            main(env)
        except Exception as error:
            seen[env.worker_id] = error
            raise

    began = time.monotonic()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the caller looks at it
        LocalCluster(n, transport, **kwargs).run(kept)
    assert time.monotonic() - began < 25
    return seen, caught.value


ONE = np.ones(4)
FROZEN = np.ones(4)
FROZEN.flags.writeable = False
WRONG = {
    "not contiguous": (Call("allreduce"), np.ones((4, 4))[:, 1], np.ones(4)),
    "objects": (Call("allreduce"), np.array([1, None, {}, 2], object), np.empty(4, object)),
    "a list": (Call("allreduce"), [1, 2, 3, 4], np.ones(4)),
    "two dtypes": (Call("allreduce"), np.ones(4, "f4"), np.ones(4)),
    "two lengths": (Call("allreduce"), np.ones(5), np.ones(4)),
    "read-only": (Call("allreduce"), ONE, FROZEN),
    "overlap": (Call("allgather"), np.ones(8)[2:4], None),
    "no receive": (Call("allreduce"), ONE, None),
    "no send": (Call("allgather"), None, ONE),
    "send of a broadcast": (Call("broadcast"), ONE, np.ones(4)),
    "unknown operation": (Call("allredude"), ONE, np.ones(4)),
    "unknown op": (Call("allreduce", "plus"), ONE, np.ones(4)),
    "op of another dtype": (Call("allreduce", "band"), ONE, np.ones(4)),
    "unknown algorithm": (Call("allreduce", algorithm="magic"), ONE, np.ones(4)),
    "native where there is none": (Call("allreduce", algorithm="native"), ONE, np.ones(4)),
    "root outside": (Call("broadcast", root=2), None, np.ones(4)),
    "too short for all": (Call("allgather"), ONE, np.ones(7)),
    "one count missing": (Call("allgather", receive_counts=(4,)), ONE, np.ones(4)),
    "counts of another sum": (Call("allgather", receive_counts=(4, 3)), ONE, np.ones(8)),
    "sum of texts": (Call("allreduce"), np.array(["abc"] * 4), np.array(["abc"] * 4)),
    "and of texts": (Call("allreduce", "and"), np.array([b"abc"] * 4), np.array([b"abc"] * 4)),
    "root is no index": (Call("broadcast", root="one"), None, np.ones(4)),
    "negative count": (Call("allgather", receive_counts=(9, -1)), ONE, np.ones(8)),
    "counts without use": (Call("allreduce", receive_counts=(2, 2)), ONE, np.ones(4)),
    "not aligned": (Call("allreduce"), np.frombuffer(b"1" * 33, "u1")[1:].view("f8"), np.ones(4)),
    "foreign byte order": (Call("allreduce"), np.ones(4, ">f8"), np.ones(4, ">f8")),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_told_and_others_raise(name):
    call, send, receive = WRONG[name]
    if name == "overlap":
        memory = np.ones(8)
        send, receive = memory[2:4], memory[:4]

    def main(env):
        collectives = env.network.collectives()
        if env.worker_id:
            collectives.run(Call("allreduce"), np.ones(4), np.ones(4))
        else:
            try:
                collectives.run(call, send, receive)
            except OperatorError:
                time.sleep(0.05)  # the program caught it: it is over all the same
                with pytest.raises(StepAbortedError):
                    collectives.run(Call("barrier"))
                raise

    seen, error = outcomes(main)
    assert isinstance(error, OperatorError)
    assert error.what
    assert error.why
    assert error.remedy
    assert isinstance(seen[1], StepAbortedError)


def _differ(env, name):
    collectives, odd = env.network.collectives(), env.worker_id == 1
    n, dtype, call = 4, "f8", Call("allreduce")
    if name == "dtype" and odd:
        dtype = "f4"
    elif name == "elements" and odd:
        n = 5
    elif name == "op" and odd:
        call = Call("allreduce", "max")
    elif name == "root":
        collectives.run(Call("broadcast", root=env.worker_id % 2), None, np.ones(n))
    elif name == "operation" and odd:
        collectives.run(Call("barrier"))
    collectives.run(call, np.ones(n, dtype), np.ones(n, dtype))
    collectives.run(Call("barrier"))


@pytest.mark.parametrize("transport", ["loopback", NativeLoopback])
@pytest.mark.parametrize("name", ["dtype", "elements", "op", "root", "operation"])
def test_members_in_different_calls_are_told_both_lines(name, transport):
    seen, error = outcomes(lambda env: _differ(env, name), 3, transport)
    assert isinstance(error, StepMismatchError)
    assert all(isinstance(one, (StepMismatchError, StepAbortedError)) for one in seen.values()), seen
    assert len(seen) == 3
    assert str(error).count("test_collectives.py:") >= 2, error
    if name == "op":
        assert {"reducer=sum", "reducer=max"} <= {*str(error).split()}, "as the option is called"


def test_members_with_different_counts_are_shown_them():
    def main(env):
        counts = (3, 5 - env.worker_id)
        call = Call("allgather", receive_counts=counts)
        env.network.collectives().run(call, np.ones(counts[env.worker_id]), np.empty(sum(counts)))

    error = outcomes(main)[1]
    assert isinstance(error, StepMismatchError)
    assert "counts=[3,5]" in str(error)
    assert "counts=[3,4]" in str(error)


def test_of_many_counts_the_first_are_shown_and_all_are_compared():
    def shape(last):
        counts = np.array([3, *[1000] * 40, last])
        plan = make_plan(Call("reduce_scatter", receive_counts=counts), np.empty(counts.sum()), np.empty(3), 0, 42)
        return plan.shape

    assert "counts=[3,1000,1000," in shape(1)
    assert len(shape(1)) < 100, "what a board of steps has room for"
    assert shape(1) == shape(1) != shape(2)


@pytest.mark.parametrize("transport", ["loopback", NativeLoopback])
def test_who_returns_early_ends_the_wait_of_all(transport):
    def main(env):
        env.network.collectives().run(Call("barrier"))
        if env.worker_id:
            env.network.collectives().run(Call("allreduce"), np.ones(4), np.ones(4))

    seen, error = outcomes(main, 3, transport)
    assert isinstance(error, StepMismatchError)
    assert set(seen) == {1, 2}
    assert "worker 0 returned" in str(error)
    assert "allreduce" in str(error)


def test_counts_that_do_not_fit_are_found():
    """Worker 1 expects of worker 0 another number than that gives."""

    def main(env):
        sent = (2, 3 if env.worker_id == 0 else 2)
        call = Call("alltoall", send_counts=sent, receive_counts=(2, 2))
        env.network.collectives().run(call, np.ones(sum(sent)), np.ones(4))

    assert isinstance(outcomes(main)[1], StepMismatchError)


def test_a_function_that_raises_or_returns_something_else():
    def raises(left, right):
        raise ZeroDivisionError("mine")

    def shapes(left, right):
        return left[:1]

    def main(env, function):
        env.network.collectives().run(Call("allreduce", function), np.ones(4), np.ones(4))

    seen, error = outcomes(lambda env: main(env, raises))
    assert isinstance(error, UserCodeError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert f"{__file__}:" in error.where
    assert len(seen) == 2
    _, error = outcomes(lambda env: main(env, shapes))
    assert isinstance(error, OperatorError)
    assert "shapes" in error.what


def test_a_call_that_is_left_open_is_an_error():
    def main(env):
        env.network.collectives().start(Call("allreduce"), np.ones(4), np.ones(4))
        if env.worker_id:
            time.sleep(0.2)

    with pytest.raises((OperatorError, StepMismatchError)):
        LocalCluster(2, "loopback").run(main)


@pytest.mark.parametrize("transport", ["loopback", NativeLoopback])
def test_a_request_waits_within_its_deadline_and_stays_open(transport):
    def main(env):
        collectives = env.network.collectives()
        collectives.run(Call("barrier"))
        if env.worker_id:
            env.link.exchange("test", "late", None, 10)
        receive = np.empty(4)
        request = collectives.start(Call("allreduce"), np.ones(4), receive)
        if not env.worker_id:
            assert not request.test()
            with pytest.raises(DeadlineError, match="allreduce, step"):
                request.wait(0.05)
            env.link.exchange("test", "late", None, 10)
        request.wait(10)
        assert (receive == 2).all()

    LocalCluster(2, transport).run(main)


def test_what_is_waited_for_is_shown():
    texts = []

    def main(env):
        collectives = env.network.collectives()
        collectives.run(Call("barrier"))
        if env.worker_id == 1:
            until = time.monotonic() + 20
            while not any("for worker 1" in text for text in texts) and time.monotonic() < until:
                time.sleep(0.01)
        elif env.worker_id == 0:
            note, said = env.link.waiting, texts.append
            env.link.waiting = lambda what: (said(what), note(what))
        collectives.run(Call("allreduce"), np.ones(4), np.ones(4))

    LocalCluster(2, "loopback").run(main)
    assert any("allreduce, step 2: for worker 1" in text for text in texts), texts


def test_one_way_senders_do_not_fill_the_memory_of_a_slow_reader():
    """60 gathers of 2 MiB to a root that waits for somebody else first."""
    held = []

    def main(env):
        collectives = env.network.collectives()
        collectives.run(Call("barrier"))
        receive = np.empty((3, 1 << 18)) if env.worker_id == 0 else None
        for number in range(60):
            if env.worker_id == 2 and number == 0:
                time.sleep(0.5)
            collectives.run(Call("gather"), np.full(1 << 18, float(number)), receive)
            if receive is not None:
                assert (receive == number).all()
                held.append(env.network.under_way.received)

    LocalCluster(3, "loopback", network=NetworkConfig()).run(main)
    assert max(held) < 200 << 20


def test_groups_that_nobody_uses_are_dropped():
    def main(env):
        for _ in range(50):
            group = env.network.group([1, 0])
            env.network.collectives(group).run(Call("allreduce"), np.ones(3), np.empty(3))
        kept = env.network.collectives(group)
        del group
        kept.run(Call("barrier"))
        return len(env.network._collectives)

    assert max(LocalCluster(2, NativeLoopback).run(main)) < 10


@pytest.mark.parametrize("operation", ["allreduce", "reduce", "scan"])
def test_arrays_of_another_shape_are_not_combined_though_of_equal_size(operation: str) -> None:
    def program(env: Any) -> None:
        array = np.ones((2, 3) if env.worker_id else (3, 2))
        receive = np.empty_like(array) if operation != "reduce" or env.worker_id == 0 else None
        env.network.collectives().run(Call(operation), array, receive)

    with pytest.raises(StepMismatchError, match="different things") as caught:
        LocalCluster(2).run(program)
    assert "2x3" in caught.value.why
    assert "3x2" in caught.value.why


@pytest.mark.parametrize("root", [np.int64(1), np.uint8(1), np.array(1)], ids=["int64", "uint8", "0-d"])
def test_any_index_is_a_root_on_both_roads(root):
    def main(env):
        collectives, array = env.network.collectives(), np.full(2, env.worker_id)
        collectives.run(Call("broadcast", root=root), None, array)
        return array.tolist(), collectives.run_objects(Call("broadcast", root=root), env.worker_id)

    assert LocalCluster(2, "loopback").run(main) == [([1, 1], 1)] * 2


def test_a_root_that_is_no_index_is_told_on_the_road_of_objects():
    def main(env):
        env.network.collectives().run_objects(Call("broadcast", root="one"), 1)

    with pytest.raises(OperatorError, match="no root 'one'"):
        LocalCluster(2, "loopback").run(main)


@pytest.mark.parametrize("form", [np.arange, lambda n: np.arange(2.0 * n)[n:], lambda n: _read_only(n)])
@pytest.mark.parametrize("operation", ["gather", "allgather", "alltoall", "scatter"])
@pytest.mark.parametrize("size", [1, 2])
def test_a_members_own_array_comes_back_as_a_copy(operation, form, size):
    def main(env):
        given = form(4)
        value = [given] * size if operation in ("alltoall", "scatter") else given
        collectives, call = env.network.collectives(), Call(operation)
        request = collectives.start_objects(call, value)
        request.wait(10)
        for result in (collectives.run_objects(call, value), request.result):
            if env.worker_id == 0 or operation in ("allgather", "alltoall"):
                own = result if operation == "scatter" else result[env.worker_id]
                assert not np.shares_memory(own, given)
                own += 1
                assert own.tolist() == [one + 1 for one in given.tolist()]

    LocalCluster(size, "loopback").run(main)


def _read_only(n):
    array = np.arange(n)
    array.flags.writeable = False
    return array
