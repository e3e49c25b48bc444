"""The MPI library's collectives give what numpy gives, and no member gets a result of another call."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import warnings
from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from twister2.spec.collectives import OPERATIONS, Call
from twister2.spec.errors import NetworkError, StepMismatchError
from twister2_comm_mpi.config import MpiConfig
from twister2_comm_mpi.plugin import FACTS, MpiPlugin
from twister2_testkit.comm_pmi import PmiWorld
from twister2_testkit.comm_world import World
from twister2_testkit.processes import wait_until
from twister2_testkit.seeds import drawn_seed
from twister2_testkit.segments import left_behind

pytestmark = pytest.mark.needs_mpi

DEADLINE_S = 20.0
ARITHMETIC = ["sum", "prod", "min", "max"]
LOGICAL = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
BITWISE = {"band": np.bitwise_and, "bor": np.bitwise_or, "bxor": np.bitwise_xor}
UFUNCS = {"sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum, **LOGICAL, **BITWISE}
INTEGERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"]


def make(context):
    return MpiPlugin().comm_create(config=MpiConfig(), context=context)


def world(size, *, close=True):
    """:param close: whether ranks end in order; after an error they cannot."""
    return World(size, make, processes=True, services=PmiWorld, close=close, segments=FACTS.segments)


class Native:
    """The collectives of a group on one rank, with step numbers.

    :param shared: whether its members can share memory.
    """

    def __init__(self, rank, members=None, *, shared=True):
        self.rank = rank
        if not shared:
            no_shared_memory()
        members = list(range(rank.size)) if members is None else members
        self.me = members.index(rank.id)
        self.size = len(members)
        self.it = rank.transport.native(members)
        self.step = 0

    def start(self, call, send=None, receive=None, fingerprint=7):
        self.step += 1
        return self.it.start(call, send, receive, self.step, fingerprint)

    def run(self, call, send=None, receive=None, fingerprint=7):
        self.finish(self.start(call, send, receive, fingerprint))
        return receive

    @staticmethod
    def finish(request, seconds=DEADLINE_S):
        end = time.monotonic() + seconds
        while not request.test():
            assert time.monotonic() < end, "a collective did not complete"
            time.sleep(0)


def no_shared_memory():
    """This process, of the test only, can neither make memory for others nor use theirs."""
    from twister2_comm_mpi.native import rooms

    def refuse(*_):
        raise PermissionError

    rooms._attach = os.memfd_create = refuse


def expected(op, arrays, dtype):
    result = arrays[0]
    for array in arrays[1:]:
        result = UFUNCS[op](result, array).astype(dtype)
    return result


def operands(dtype, size, n, seed):
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "fc":
        return [generator.integers(-4, 5, n).astype(dtype) for _ in range(size)]
    return [generator.integers(0, 2 if dtype == "?" else 100, n).astype(dtype) for _ in range(size)]


# 3 travel with the fingerprints, 100 by memory where there is some, else by the library
@pytest.mark.parametrize(("n", "shared"), [(3, True), (100, True), (100, False)])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_reduction_of_every_dtype_gives_what_numpy_gives(size, n, shared):
    def body(rank):
        warnings.simplefilter("error")  # in a program that does so, too
        native, done = Native(rank, shared=shared), 0
        for dtype in [*INTEGERS, "f4", "f8", "g", "c8", "c16", "f2", "M8[s]", ">f8"]:
            arrays = operands(dtype, size, n, 3)
            for op in UFUNCS:
                call = Call("allreduce", op=op)
                if not native.it.accepts(call, np.dtype(dtype), arrays[0].nbytes):
                    continue
                got = native.run(call, arrays[native.me], np.empty(n, dtype))
                assert got.tolist() == expected(op, arrays, dtype).tolist(), (op, dtype)
                done += 1
        return done

    # all ops on integers and truth values, four on common floats, two on long double, sums of complex numbers
    assert world(size).run(body) == [9 * 10 + 2 * 4 + 2 + 2] * size


@pytest.mark.parametrize(("n", "shared"), [(5, True), (40, True), (40, False)])
@pytest.mark.parametrize("size", [2, 3])
def test_every_operation_moves_what_it_should(size, n, shared):
    def body(rank):
        native = Native(rank, shared=shared)
        me = native.me
        for dtype in ["f8", "?", "c16", "M8[s]", "S3", ">i4", [("a", "i4"), ("b", "f8")]]:
            values = (np.arange(n * size * size) % 251).astype("u1").repeat(np.dtype(dtype).itemsize)
            if dtype == "?":
                values &= 1
            grid = values.view(dtype).reshape(size, size, n)
            kind = grid.dtype
            mine = np.ascontiguousarray(grid[me])
            for root in range(size):
                got = native.run(Call("broadcast", root=root), None, mine.copy() if me == root else np.empty_like(mine))
                assert got.tobytes() == grid[root].tobytes()
                into = np.empty((size, n), kind) if me == root else None
                native.run(Call("gather", root=root), mine[0], into)
                assert into is None or into.tobytes() == np.ascontiguousarray(grid[:, 0]).tobytes()
                got = native.run(Call("scatter", root=root), mine if me == root else None, np.empty(n, kind))
                assert got.tobytes() == grid[root, me].tobytes()
            got = native.run(Call("allgather"), mine[0], np.empty((size, n), kind))
            assert got.tobytes() == np.ascontiguousarray(grid[:, 0]).tobytes()
            got = native.run(Call("alltoall"), mine, np.empty((size, n), kind))
            assert got.tobytes() == np.ascontiguousarray(grid[:, me]).tobytes()
            native.run(Call("barrier"))

    world(size).run(body)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_large_scatter_is_sent_by_its_root(size, shared):
    """So many bytes of each dtype; the calls are under way together, and the next ones come right behind them."""

    def body(rank):
        native = Native(rank, shared=shared)
        me, nbytes, under_way = native.me, 6_000_000, []
        for dtype in ["f8", "S3", ">i4", "M8[s]"]:
            n = nbytes // size // np.dtype(dtype).itemsize
            for root in range(size):
                bytes_ = (np.arange(n * size * np.dtype(dtype).itemsize) % 251 + root).astype("u1")
                grid = bytes_.view(dtype).reshape(size, -1, 2)
                into = np.zeros(grid.shape[1:], dtype)
                request = native.start(Call("scatter", root=root), grid.copy() if me == root else None, into)
                assert size == 1 or request.by_library
                small = native.start(Call("allreduce"), np.ones(1), np.empty(1))
                under_way.append((request, small, into, grid[me]))
        for request, small, into, wanted in reversed(under_way):
            native.finish(small)
            native.finish(request)
            assert into.tobytes() == wanted.tobytes()
        native.run(Call("barrier"))

    world(size).run(body)


@pytest.mark.parametrize("odd", [0, 1])
def test_large_scatters_that_do_not_fit_together_are_found(odd):
    """One member's parts are half as long."""

    def body(rank):
        native, is_odd = Native(rank), rank.id == odd
        n = 600_000 // (2 if is_odd else 1)
        send, into = np.ones(2 * n) if rank.id == 0 else None, np.zeros(n)

        def until_it_is_found():
            native.run(Call("scatter"), send, into, fingerprint=n)
            assert rank.id == 0  # who gives learns of it in its next call
            native.run(Call("barrier"))

        with pytest.raises(StepMismatchError):
            until_it_is_found()

    world(2, close=False).run(body)


def test_parts_of_different_sizes():
    size = 3

    def body(rank):
        native = Native(rank)
        me = native.me
        sent = [[(source * 5 + target) % 4 for target in range(size)] for source in range(size)]
        blocks = [[np.full(sent[s][t], 10 * s + t, "f8") for t in range(size)] for s in range(size)]
        received = tuple(sent[source][me] for source in range(size))
        call = Call("alltoall", send_counts=tuple(sent[me]), receive_counts=received)
        got = native.run(call, np.concatenate(blocks[me]), np.empty(sum(received)))
        assert got.tolist() == np.concatenate([blocks[source][me] for source in range(size)]).tolist()
        counts = (0, 3, 2)
        parts = [np.full(count, source, "M8[s]") for source, count in enumerate(counts)]
        got = native.run(Call("allgather", receive_counts=counts), parts[me], np.empty(5, "M8[s]"))
        assert got.tolist() == np.concatenate(parts).tolist()
        into = np.empty(5, "M8[s]") if me == 1 else None
        native.run(Call("gather", root=1, receive_counts=counts), parts[me], into)
        assert into is None or into.tolist() == np.concatenate(parts).tolist()
        whole = np.arange(5.0) if me == 2 else None
        got = native.run(Call("scatter", root=2, send_counts=counts), whole, np.empty(counts[me]))
        assert got.tolist() == np.split(np.arange(5.0), np.cumsum(counts)[:-1])[me].tolist()
        got = native.run(Call("reduce_scatter", receive_counts=counts), np.arange(5.0), np.empty(counts[me]))
        assert got.tolist() == (3 * np.split(np.arange(5.0), np.cumsum(counts)[:-1])[me]).tolist()

    world(size).run(body)


def test_reductions_with_roots_prefixes_and_in_place():
    size = 3

    def body(rank):
        native = Native(rank)
        me = native.me
        arrays = operands("i8", size, 6, 11)
        total = sum(arrays)
        for root in range(size):
            native.run(Call("reduce", root=root), arrays[me], into := np.empty(6, "i8") if me == root else None)
            assert into is None or into.tolist() == total.tolist()
            into = arrays[me].copy()
            native.run(Call("reduce", root=root), None if me == root else into, into if me == root else None)
            assert me != root or into.tolist() == total.tolist()
        assert native.run(Call("allreduce"), None, arrays[me].copy()).tolist() == total.tolist()
        for send in (arrays[me], None):
            got = native.run(Call("scan"), send, arrays[me].copy())
            assert got.tolist() == sum(arrays[: me + 1]).tolist()
            got = native.run(Call("exscan"), send, arrays[me].copy())
            assert got.tolist() == (sum(arrays[:me]) if me else arrays[0]).tolist()
        got = native.run(Call("reduce_scatter"), np.concatenate(arrays), np.empty(6, "i8"))
        assert got.tolist() == (size * arrays[me]).tolist()

    world(size).run(body)


def test_nan_and_signed_zero_come_out_alike_on_all_ranks():
    size = 3

    def body(rank):
        native = Native(rank)
        values = [[np.nan, 1.0, 0.0, 2.0], [0.0, np.nan, -0.0, 1.0], [5.0, 5.0, 0.0, 3.0]]
        got = [native.run(Call("allreduce", op=op), np.array(values[native.me]), np.empty(4)) for op in ("min", "max")]
        return b"".join(array.tobytes() for array in got), [array.tolist()[3] for array in got], np.isnan(got).tolist()

    answers = world(size).run(body)
    assert len({bits for bits, _, _ in answers}) == 1
    assert answers[0][1:] == ([1.0, 3.0], [[True, True, False, False]] * 2)


@pytest.mark.parametrize(("n", "shared"), [(0, True), (1, True), (300_000, True), (300_000, False)])
def test_sizes_and_calls_under_way_together(n, shared):
    size = 3

    def body(rank):
        native = Native(rank, shared=shared)
        receives = [np.zeros(n) for _ in range(6)]
        requests = [
            native.start(Call("allreduce"), np.full(n, float(k + native.me)), into) for k, into in enumerate(receives)
        ]
        for request in reversed(requests):
            native.finish(request)
        assert all((into == 3 * k + 3).all() for k, into in enumerate(receives))

    world(size).run(body)


def test_sub_groups_have_calls_of_their_own():
    size = 4

    def body(rank):
        members = [2, 0] if rank.id % 2 == 0 else [1, 3]
        whole, half = Native(rank), Native(rank, members)
        for _ in range(3):
            ids = half.run(Call("allgather"), np.array([rank.id]), np.empty(2, int))
            assert ids.tolist() == members
        assert whole.run(Call("allreduce"), np.array([rank.id]), np.empty(1, int)).tolist() == [6]
        half.it.close()
        return rank.transport.mpi_communicator().allreduce(1)

    assert world(size).run(body) == [size] * size


@pytest.mark.parametrize(("size", "shared"), [(2, True), (3, False), (9, True)])
def test_what_the_library_did_counts_once_it_has_done_it_everywhere(size, shared):
    """A member that dies before may have left something wrong with the others."""

    def body(rank):
        native = Native(rank, shared=shared)
        call = Call("allgather", receive_counts=(1,) * size)  # with counts: by the library; small: it does not wait
        into, last = np.zeros(size), size - 1
        request = native.start(call, np.full(1, 1.0 + native.me), into)
        rank.sync("started")
        if native.me != last:
            until = time.monotonic() + DEADLINE_S
            while not into.all() and time.monotonic() < until:
                assert not request.test()
            for _ in range(1000):
                assert not request.test()
        rank.sync("moved")
        native.finish(request)
        # who only gives goes on without the others
        request = native.start(Call("gather", root=last, receive_counts=(1,) * size), into[:1], into)
        if native.me != last:
            native.finish(request)
        rank.sync("given")
        native.finish(request)
        native.run(Call("barrier"))
        return into.sum()

    assert set(world(size).run(body)) == {sum(range(1, size + 1)), float(size)}


def test_groups_larger_than_the_fingerprints_go_from_each_to_each():
    size = 10

    def body(rank):
        native = Native(rank)
        assert native.run(Call("allreduce"), np.array([1]), np.empty(1, int)).tolist() == [size]
        native.run(Call("barrier"))
        rank.sync("before")
        with pytest.raises(StepMismatchError) as caught:
            native.run(Call("barrier"), fingerprint=5 + (rank.id == 3))
        return caught.value.details["peer"]

    # members that are right name the one that is wrong; it names some other
    answers = world(size, close=False).run(body)
    assert set(answers[:3] + answers[4:]) == {3}


def test_a_member_in_another_call_is_found_and_nobody_gets_its_result():
    choice = random.Random(drawn_seed())
    size, odd, warm_up = choice.randint(2, 4), 0, choice.randint(0, 3)
    odd = choice.randrange(size)
    names = [name for name in OPERATIONS if name != "reduce_scatter"]
    first, second = choice.sample(names, 2)
    n, shared = choice.choice([1, 1000, 100_000]), choice.random() < 0.7

    def body(rank):
        native = Native(rank, shared=shared)

        def arrays(operation):
            send, receive = np.full(n * size, 1.0), np.full(n * size, -1.0)
            at_root = native.me == 0
            return {
                "barrier": (None, None),
                "broadcast": (None, receive),
                "reduce": (send, receive if at_root else None),
                "gather": (send[:n], receive if at_root else None),
                "scatter": (send if at_root else None, receive[:n]),
                "allgather": (send[:n], receive),
            }.get(operation, (send, receive))

        def call(operation):
            native.run(Call(operation), *arrays(operation), fingerprint=names.index(operation))

        for _ in range(warm_up):
            call("allreduce")
        rank.sync("warm")
        returned = []

        def until_it_is_found():
            call(second if rank.id == odd else first)
            returned.append(1)  # only who gives and gets nothing: it finds out before its next call is over
            call("barrier")

        with pytest.raises(StepMismatchError) as caught:
            until_it_is_found()
        rank.sync("found", progress=False)
        received = {"reduce", "gather"} if native.me else {"broadcast", "scatter"}
        mine = second if rank.id == odd else first
        assert not returned or mine in received
        return caught.value.details["peer"]

    peers = world(size, close=False).run(body)
    assert odd in peers
    assert peers[odd] != odd


def test_a_mismatch_is_found_by_progress_alone():
    size = 2

    def body(rank):
        native = Native(rank)
        if rank.id == 0:
            native.run(Call("broadcast"), None, np.zeros(1), fingerprint=1)  # the root returns at once
            with pytest.raises(StepMismatchError):
                rank.until(lambda: None, "the mismatch")
        else:
            with pytest.raises(StepMismatchError):
                native.run(Call("barrier"), fingerprint=2)
        rank.sync("found", progress=False)

    world(size, close=False).run(body)


@pytest.mark.parametrize("size", [2, 9])
@pytest.mark.parametrize("operation", ["allgather", "alltoall", "gather", "scatter", "reduce_scatter"])
def test_counts_that_do_not_fit_are_an_error(operation, size):
    def body(rank):
        native = Native(rank)
        n = 2 if rank.id else 3  # worker 0 has other ideas of the sizes than the others
        counts, array, into = (n,) * size, np.ones(n * size), np.empty(n * size)
        if operation == "allgather":
            call, send, receive = Call(operation, receive_counts=counts), array[:n], into
        elif operation == "alltoall":
            call, send, receive = Call(operation, send_counts=counts, receive_counts=counts), array, into
        elif operation == "gather":
            call, send, receive = Call(operation, receive_counts=counts), array[:n], None if rank.id else into
        elif operation == "scatter":
            call, send, receive = Call(operation, send_counts=counts), None if rank.id else array, into[:n]
        else:
            call, send, receive = Call(operation, receive_counts=counts), array, into[:n]
        if operation in ("gather", "scatter") and (rank.id == 0) == (operation == "scatter"):
            native.run(call, send, receive)  # gives and gets nothing: who receives finds it
            return
        with pytest.raises((StepMismatchError, NetworkError), match="worker"):
            native.run(call, send, receive)

    world(size, close=False).run(body)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("operation", "n", "shared"),
    [
        ("allreduce", 2000, True),
        ("allreduce", 200_000, True),
        ("allreduce", 200_000, False),
        ("broadcast", 200_000, False),
        ("barrier", 0, True),
    ],
)
def test_nothing_blocks_when_a_member_is_killed(operation, n, shared):
    size, before = 3, left_behind(FACTS.segments)

    def body(rank):
        native = Native(rank, shared=shared)
        native.run(Call("barrier"))
        rank.sync("up")
        if rank.id == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        arrays = (None, None) if operation == "barrier" else (None, np.zeros(n))
        end, longest = time.monotonic() + 0.5, 0.0
        requests = [native.start(Call(operation), *arrays) for _ in range(3)]
        while time.monotonic() < end:
            began = time.perf_counter()
            assert not requests[-1].test()
            rank.transport.progress()
            longest = max(longest, time.perf_counter() - began)
        rank.transport.close(aborted=True)
        return longest

    answers = world(size, close=False).run(body)
    assert all(longest < 20 for longest in answers if isinstance(longest, float))
    wait_until(lambda: left_behind(FACTS.segments) <= before, 60, lambda: f"left: {left_behind(FACTS.segments)}")


def test_what_the_library_says_of_the_fingerprints_is_told_with_a_remedy():
    def body(rank):
        from mpi4py import MPI

        def fails():
            raise MPI.Exception(MPI.ERR_OTHER)

        native = Native(rank)
        request = native.start(Call("barrier"))
        request.exchange = SimpleNamespace(test=fails)  # as a request of the library does
        with pytest.raises(NetworkError, match="tell each other"):
            request.test()

    world(1, close=False).run(body)


@pytest.mark.faults
@pytest.mark.parametrize(("size", "shared"), [(3, True), (3, False), (9, True)])
def test_what_is_complete_is_right_also_when_a_member_is_killed_meanwhile(size, shared):
    """The library may say that a call is complete, or fail, or crash, when a member dies in the midst of it."""
    before, seed = left_behind(FACTS.segments), drawn_seed()

    def body(rank):
        native, number, chosen = Native(rank, shared=shared), 0, random.Random(seed)
        part, killed, after = 200_000 // (1 + size), chosen.randrange(size), chosen.uniform(0.0, 0.4)
        counts = tuple(part + member for member in range(size))  # with counts: by the library
        edges, scattered = np.cumsum((0, *counts)), 600_000 // size  # so large a scatter, too
        rank.sync("up")
        if rank.id == killed:
            threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            number += 1
            given = [np.arange(edges[-1]) % 97.0 + number + member for member in range(size)]
            total = sum(given)
            for call, into, wanted in (
                (Call("allgather", receive_counts=counts), np.empty(edges[-1]), None),
                (Call("reduce_scatter", receive_counts=counts), np.empty(counts[native.me]), total),
                (Call("scatter", root=number % size), np.empty(scattered), None),
            ):
                mine = slice(edges[native.me], edges[native.me + 1])
                send = given[native.me] if wanted is not None else given[native.me][mine].copy()
                if call.operation == "scatter":
                    whole = np.arange(size * scattered) % 97.0 + number
                    send = whole if native.me == call.root else None
                    wanted = np.split(whole, size)[native.me]
                elif wanted is None:
                    wanted = np.concatenate(
                        [given[member][edges[member] : edges[member + 1]] for member in range(size)]
                    )
                else:
                    wanted = wanted[mine]
                try:
                    request = native.start(call, send, into)
                    while not request.test():
                        if time.monotonic() > end:
                            rank.transport.close(aborted=True)
                            return number
                except NetworkError:  # what the library says of it; a mismatch is one, too
                    return number
                assert (into == wanted).all(), f"seed {seed}, {call.operation} {number}"
        return number

    answers = world(size, close=False).run(body)
    print(f"seed {seed}: {answers}")
    wait_until(lambda: left_behind(FACTS.segments) <= before, 60, lambda: f"left: {left_behind(FACTS.segments)}")


@pytest.mark.faults
@pytest.mark.parametrize("size", [2, 3])
def test_an_abort_ends_the_wait_for_a_group(size):
    """Worker 1 does not come."""
    over = []

    def never_or_late(context):
        return make(attrs.evolve(context, aborted=lambda: bool(over) and time.monotonic() > over[0]))

    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        if rank.id != 1:
            began = time.monotonic()
            over.append(began + 0.2)
            with pytest.raises(NetworkError, match="aborted"):
                rank.transport.native(list(reversed(range(size))))
            assert time.monotonic() - began < 20
        rank.sync("end of test", progress=False)

    World(size, never_or_late, processes=True, services=PmiWorld, close=False).run(body)


@pytest.mark.faults
def test_an_abort_ends_the_wait_for_the_communicator_of_all():
    """Worker 1 has met the others, and is killed before it asks for the communicator."""
    over = []

    def late(context):
        return make(attrs.evolve(context, aborted=lambda: bool(over) and time.monotonic() > over[0]))

    def body(rank):
        rank.reach_all()
        rank.sync("reached")
        meetings = rank.transport._meetings
        if rank.id == 1:
            meetings.meet([0, 1, 2])
            os.kill(os.getpid(), signal.SIGKILL)
        over.append(time.monotonic() + 1.0)
        with pytest.raises(NetworkError, match="aborted"):
            rank.transport.native([0, 1, 2])
        assert time.monotonic() - over[0] < 20
        rank.transport.close(aborted=True)

    World(3, late, processes=True, services=PmiWorld, close=False).run(body)


def test_groups_are_made_in_different_orders_with_messages_under_way():
    """Members of overlapping groups meet while others are at another one already."""

    def body(rank):
        rank.reach_all()
        groups = {0: [[0, 1], [0, 1, 2]], 1: [[0, 1], [1, 2], [0, 1, 2]], 2: [[1, 2], [0, 1, 2]]}[rank.id]
        for turn in range(5):
            for peer in rank.others:
                rank.send(peer, [bytes(100 + turn), bytes(100_000)])
            for members in groups:
                native = Native(rank, members)
                into = native.run(Call("allreduce"), np.full(20, float(turn)), np.empty(20))
                assert (into == turn * len(members)).all()
        for _ in range(10):
            assert len(rank.receive().frames) == 2

    world(3).run(body)


def test_a_group_of_more_members_than_tell_each_other():
    def body(rank):
        native = Native(rank)
        for turn in range(3):
            into = native.run(Call("allreduce"), np.full(3, float(turn)), np.empty(3))
            assert (into == 9 * turn).all()

    world(9).run(body)


@pytest.mark.slow
def test_groups_beyond_the_librarys_communicators_are_refused_on_all_members_alike():
    def body(rank):
        for number in range(20_000):
            if rank.transport.native([0, 1]) is None:
                return number
        return None

    answers = world(2).run(body)
    assert answers[0] == answers[1]
    assert answers[0] is None or answers[0] > 100
