"""Memory that members share: no place is used again too early, all of them have it or none, nothing stays behind.

And parts of all sizes, whichever way they go.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from twister2.spec.collectives import Call
from twister2.spec.errors import NetworkError

from .test_native import Native, no_shared_memory, world

MOST = 64

pytestmark = pytest.mark.needs_mpi


def has_rooms(native):
    return getattr(native.it._checks, "rooms", None) is not None


def test_a_member_that_gives_waits_until_its_places_are_free():
    """The root runs ahead of the others as far as there are places, and changes what it gave as soon as it may."""
    size, turns, n = 3, 7, 5000

    def body(rank):
        native = Native(rank)
        assert has_rooms(native)
        mine = native.it._checks
        if native.me == 0:
            arrays = [np.full(n, float(turn)) for turn in range(turns)]
            requests = [native.start(Call("broadcast"), None, array) for array in arrays]
            assert mine._last.held
            rank.sync("started")
            for request, array in zip(requests, arrays, strict=True):
                native.finish(request)
                array[...] = -1.0
        else:
            rank.sync("started")
            for turn in range(turns):
                assert (native.run(Call("broadcast"), None, np.empty(n)) == turn).all()
        native.run(Call("barrier"))

    world(size).run(body)


@pytest.mark.parametrize(("size", "shared"), [(3, True), (3, False), (9, True)])
def test_calls_under_way_together_that_are_asked_after_in_any_order(size, shared):
    """As a whole, in pieces, by a root, and by the library (with counts)."""
    turns, n = 12, 3000

    def body(rank):
        native = Native(rank, shared=shared)
        under_way = []
        for turn in range(turns):
            kind, root = turn % 4, turn % size
            of_all = [np.full(n, float(10 * turn + member)) for member in range(size)]
            given = of_all[native.me]
            if kind == 0:
                into, wanted = np.empty(n), sum(of_all)
                request = native.start(Call("allreduce"), given, into)
            elif kind == 1:
                into, wanted = given, of_all[root]
                request = native.start(Call("broadcast", root=root), None, into)
            elif kind == 2:
                into, wanted = np.empty(150_000), sum(of_all).repeat(50)
                request = native.start(Call("allreduce"), given.repeat(50), into)
            else:
                into, wanted = np.empty(size * n), np.concatenate(of_all)
                request = native.start(Call("allgather", receive_counts=(n,) * size), given, into)
            under_way.append((request, into, wanted))
        for at in np.random.default_rng(rank.id).permutation(turns):
            request, into, wanted = under_way[at]
            native.finish(request)
            assert (into == wanted).all(), at
        native.run(Call("barrier"))

    world(size).run(body)


@pytest.mark.parametrize(("size", "n"), [(2, 60_000), (4, 60_000), (2, 600_000), (2, 1_100_000)])
def test_pieces_of_what_members_give_each_other(size, n):
    """So many elements of them. By the library goes what is only moved, where it is more than 4 MiB, and more than
    16 MiB in a broadcast and a gather.
    """

    def body(rank):
        native = Native(rank)
        given = [np.arange(float(size * n)) + 1e7 * member for member in range(size)]
        mine, me = given[native.me], native.me
        part = slice(me * n, (me + 1) * n)
        got = native.run(Call("alltoall"), mine, np.empty(size * n))
        assert (got == np.concatenate([each[part] for each in given])).all()
        assert (native.run(Call("reduce_scatter"), mine, np.empty(n)) == sum(given)[part]).all()
        got = native.run(Call("allgather"), mine.reshape(100, -1), np.empty((size, 100, size * n // 100)))
        assert (got.reshape(-1) == np.concatenate(given)).all()
        for root in (0, size - 1):
            at_root = np.empty(size * size * n) if me == root else None
            native.run(Call("gather", root=root), mine, at_root)
            assert at_root is None or (at_root == np.concatenate(given)).all()
            got = native.run(Call("scatter", root=root), mine if me == root else None, np.empty(n))
            assert (got == given[root][part]).all()
            into = mine.copy()
            native.run(Call("reduce", root=root), None if me == root else into, into if me == root else None)
            assert me != root or (into == sum(given)).all()
            assert (native.run(Call("broadcast", root=root), None, mine.copy()) == given[root]).all()
        assert (native.run(Call("scan"), None, mine.copy()) == sum(given[: me + 1])).all()

    world(size).run(body)


def test_members_that_are_bound_to_different_cores_go_the_same_way():
    """Who has a core for each of them must not take pieces for what another one gives to the library."""
    n = 1_000_000

    def body(rank):
        if rank.id == 1:
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        native = Native(rank)
        assert has_rooms(native)
        for root in (0, 1):
            given = [np.arange(float(n)) + 1e7 * (root + member) for member in range(2)]
            mine = given[native.me]
            assert (native.run(Call("broadcast", root=root), None, mine.copy()) == given[root]).all()
            at_root = np.empty(2 * n) if native.me == root else None
            native.run(Call("gather", root=root), mine, at_root)
            assert at_root is None or (at_root == np.concatenate(given)).all()

    world(2).run(body)


@pytest.mark.parametrize("size", [2, 3])
def test_parts_up_to_and_above_what_travels_with_the_fingerprints_and_what_has_room_in_memory(size):
    """Eight float64 still travel; nine do not. What a member gives has room up to 65,536; more goes in pieces."""

    def main(rank):
        native = Native(rank)
        room = (1 << 16, (1 << 16) + 1, (1 << 16) // (size - 1), (1 << 16) // (size - 1) + 1)
        for n in (0, 1, 8, 9, *room):
            parts = [np.arange(1.0, n + 1) * (each + 1) for each in range(size)]
            mine, root = parts[native.me], size - 1
            expected = np.add.accumulate(parts, axis=0) if n else np.zeros((size, 0))
            for shape in ((n,), (n, 1), (1, n)):
                into = np.full(shape, -1.0)
                assert (native.run(Call("allreduce"), mine.reshape(shape), into).reshape(-1) == expected[-1]).all()
                assert (
                    native.run(Call("scan"), None, mine.reshape(shape).copy()).reshape(-1) == expected[native.me]
                ).all()
            at_root = mine.copy() if native.me == root else None
            native.run(Call("reduce", root=root), None if native.me == root else mine, at_root)
            if at_root is not None:
                assert (at_root == expected[-1]).all()
            before = native.run(Call("exscan"), mine, np.full(n, -1.0))
            assert (before == (expected[native.me - 1] if native.me else -1.0)).all()
            everything = native.run(Call("allgather"), mine, np.empty(n * size))
            assert (everything == np.concatenate(parts)).all()
            for root in range(size):
                told = parts[root].copy() if native.me == root else np.full(n, -1.0)
                assert (native.run(Call("broadcast", root=root), None, told) == parts[root]).all()
                told[...] = -2.0  # the root may change its part at once
            gathered = np.empty(n * size) if native.me == root else None
            native.run(Call("gather", root=root), mine, gathered)
            if gathered is not None:
                assert (gathered == np.concatenate(parts)).all()
            for shape in ((size * n,), (size, n)):
                # what a member gives to another says who gives it to whom
                given = [np.add.outer(10.0 * source + np.arange(size), np.arange(n) / 1e6) for source in range(size)]
                mine = given[native.me].reshape(shape)
                got = native.run(Call("alltoall"), mine, np.full(shape, -1.0))
                assert (got.reshape(size, n) == [each[native.me] for each in given]).all()
                got = native.run(Call("reduce_scatter"), mine, np.full(n, -1.0))
                assert np.allclose(got, sum(each[native.me] for each in given))
                for root in range(size):
                    out = mine.copy() if native.me == root else None
                    got = native.run(Call("scatter", root=root), out, np.full(n, -1.0))
                    assert (got == given[root][native.me]).all()
                    if out is not None:
                        out[...] = -2.0  # the root may change its parts at once
        first = [np.full(1, float(turn)) for turn in range(5)]
        into = [np.empty(1) for _ in first]
        under_way = [native.start(Call("allreduce"), *pair) for pair in zip(first, into, strict=True)]
        for request in reversed(under_way):
            native.finish(request)
        assert [one[0] for one in into] == [size * one[0] for one in first]

    world(size).run(main)


@pytest.mark.parametrize("alone", [0, 2])
def test_when_one_cannot_share_memory_all_go_by_the_library(alone):
    size = 3

    def body(rank):
        if rank.id == alone:
            no_shared_memory()
        native = Native(rank)
        assert not has_rooms(native)
        assert (native.run(Call("allreduce"), np.full(1000, 2.0), np.empty(1000)) == 2.0 * size).all()
        pair = Native(rank, [0, 1] if rank.id < 2 else [2])
        assert has_rooms(pair) == (rank.id < 2 and alone == 2)

    world(size).run(body)


def test_messages_of_the_library_move_while_a_call_waits():
    """A call in shared memory asks for nothing of the library, which moves what it has by calls only."""

    def body(rank):
        native, comm = Native(rank), rank.transport.mpi_communicator()
        assert has_rooms(native)
        large = np.full(1 << 22, float(native.me))
        if native.me == 0:
            request = comm.Irecv(large, 1)
            native.run(Call("barrier"))
            request.Wait()
        else:
            comm.Send(large, 0)  # returns when it was received
            native.run(Call("barrier"))
        return large.sum()

    assert world(2).run(body) == [float(1 << 22)] * 2


def test_what_is_not_the_memory_of_the_group_is_not_taken_for_it():
    """Where process ids are those of another container, what lies under the id and the number is something else."""

    def body(_):
        from twister2_comm_mpi.native import rooms

        size, nonce = 1 << 16, 12345
        descriptor, (pipe, end) = os.memfd_create("test"), os.pipe()
        try:
            os.ftruncate(descriptor, size)
            os.pwrite(descriptor, nonce.to_bytes(8, sys.byteorder), 8 * rooms._NONCE)
            made, me = os.fstat(descriptor), os.getpid()
            told = size, me, descriptor, made.st_dev, made.st_ino, nonce
            others = {0: 2 * size, 2: pipe, 3: made.st_dev + 1, 4: made.st_ino + 1, 5: nonce + 1}
            before = len(os.listdir("/proc/self/fd"))
            found = rooms._attach(*told)
            assert found is not None
            found[0] = 7
            assert os.pread(descriptor, 1, 0) == b"\7"
            found.close()
            for at, other in others.items():
                assert rooms._attach(*told[:at], other, *told[at + 1 :]) is None
            with pytest.raises(OSError, match="/proc"):
                rooms._attach(size, 1 << 30, *told[2:])
            assert len(os.listdir("/proc/self/fd")) == before
        finally:
            for one in (descriptor, pipe, end):
                os.close(one)

    world(1).run(body)


def test_members_that_cannot_see_each_others_processes_go_by_the_library():
    size = 3

    def body(rank):
        if rank.id == 0:
            os.getpid = os.getppid  # of this process, of the test only
        native = Native(rank)
        assert not has_rooms(native)
        assert (native.run(Call("allreduce"), np.full(1000, 2.0), np.empty(1000)) == 2.0 * size).all()

    world(size).run(body)


def test_a_group_that_is_closed_gives_its_memory_back():
    def body(rank):
        descriptors = []
        for _ in range(MOST + 3):
            native = Native(rank)
            assert has_rooms(native)
            assert (native.run(Call("allgather"), np.full(1000, 1.0), np.empty(2000)) == 1.0).all()
            native.it.close()
            descriptors.append(len(os.listdir("/proc/self/fd")))
        return descriptors[-1] - descriptors[0]

    assert world(2).run(body) == [0, 0]


@pytest.mark.parametrize("nth", [1, 2])
def test_what_a_call_that_is_aborted_fills_stays(nth):
    """The library may still write there."""

    def body(_):
        from twister2_comm_mpi import world as module
        from twister2_comm_mpi.native import rooms

        filled, waits = [], []

        def started(*buffers):
            filled.append(SimpleNamespace(Test=lambda: True, buffers=buffers))
            return filled[-1]

        def wait(ready):
            waits.append(ready)
            if len(waits) == nth:
                raise NetworkError("the group was not made", why="the attempt was aborted meanwhile", remedy="none")

        comm = SimpleNamespace(rank=1, size=2, Ibcast=started, Iallreduce=started)
        with pytest.raises(NetworkError):
            rooms.rooms(comm, "kernel", wait)
        request = filled[nth - 1]
        arrays = [argument[0] for argument in request.buffers if isinstance(argument, tuple)]
        assert module._dropped[0] is request
        assert [id(one) for one in module._dropped[1:]] == [id(one) for one in arrays]

    world(1).run(body)


def test_so_many_groups_have_memory_and_more_go_by_the_library():
    def body(rank):
        groups = [Native(rank) for _ in range(MOST + 2)]
        assert [has_rooms(native) for native in groups] == [True] * MOST + [False] * 2
        for native in groups:
            assert (native.run(Call("allreduce"), np.full(1000, 1.0), np.empty(1000)) == 2.0).all()

    world(2).run(body)
