"""Upper case: arrays, compared with numpy; mistakes are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import OperatorError, Twister2Error, UserCodeError
from twister2_harp import IN_PLACE, Harp

Run = Callable[..., list[Any]]


def data(rank: int, n: int, dtype: Any = "int64") -> Any:
    return (np.arange(n) * 7 + rank * 13).astype(dtype) % 101


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n", [0, 1, 17, 5000])
def test_every_collective_equals_numpy(run: Run, n_ranks: int, n: int) -> None:
    def program(harp: Harp) -> None:
        ranks = range(harp.size)
        mine = data(harp.rank, n)
        everybody = np.concatenate([data(rank, n) for rank in ranks])
        total = sum(data(rank, n) for rank in ranks)
        out = np.empty(n, "int64")

        harp.Barrier()
        buffer = data(1 % harp.size, n) if harp.rank == 1 % harp.size else np.empty(n, "int64")
        harp.Broadcast(buffer, root=1 % harp.size)
        assert np.array_equal(buffer, data(1 % harp.size, n))
        harp.Allreduce(mine, out)
        assert np.array_equal(out, total)
        place = mine.copy()
        harp.Allreduce(IN_PLACE, place, "max")
        assert np.array_equal(place, np.max([data(rank, n) for rank in ranks], axis=0))
        root = harp.size - 1
        harp.Reduce(mine, out if harp.rank == root else None, "sum", root)
        assert harp.rank != root or np.array_equal(out, total)
        harp.Scan(mine, out)
        assert np.array_equal(out, sum(data(rank, n) for rank in range(harp.rank + 1)))
        out[:] = -1
        harp.Exscan(mine, out)
        before = sum(data(rank, n) for rank in range(harp.rank)) if harp.rank else np.full(n, -1)
        assert np.array_equal(out, before)
        wide = np.empty(n * harp.size, "int64")
        harp.Allgather(mine, wide)
        assert np.array_equal(wide, everybody)
        harp.Gather(mine, wide if harp.rank == 0 else None)
        assert harp.rank or np.array_equal(wide, everybody)
        harp.Scatter(everybody if harp.rank == 0 else None, out)
        assert np.array_equal(out, mine)
        harp.Alltoall(everybody + harp.rank * 1000, wide)
        assert np.array_equal(wide, np.concatenate([mine + rank * 1000 for rank in ranks]))
        harp.Reduce_scatter(everybody, out)
        assert np.array_equal(out, mine * harp.size)

    run(program, n_ranks)


@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=3, max_size=3))
def test_alltoall_with_counts(counts: list[list[int]]) -> None:
    from twister2_testkit.fakes import LocalCluster

    def program(env: Any) -> None:
        harp = Harp(env)
        sends = counts[harp.rank]
        receives = [counts[rank][harp.rank] for rank in range(3)]
        send = np.concatenate([np.full(n, harp.rank * 10 + to) for to, n in enumerate(sends)]).astype("float64")
        receive = np.empty(sum(receives))
        harp.Alltoall([send, sends], [receive, receives])
        want = np.concatenate([np.full(n, rank * 10 + harp.rank) for rank, n in enumerate(receives)])
        assert np.array_equal(receive, want)

    LocalCluster(3).run(program)


@pytest.mark.parametrize("root", [0, 2])
def test_gatherv_and_scatterv_take_counts_at_the_root(run: Run, root: int) -> None:
    counts = [2, 0, 3]

    def program(harp: Harp) -> None:
        mine = np.full(counts[harp.rank], harp.rank)
        whole = np.repeat(np.arange(3), counts)
        wide = np.empty(5, "int64")
        harp.Gatherv(mine, [wide, counts] if harp.rank == root else None, root)
        assert harp.rank != root or np.array_equal(wide, whole)
        back = np.empty_like(mine)
        harp.Scatterv([whole, counts] if harp.rank == root else None, back, root)
        assert np.array_equal(back, mine)
        request = harp.Igatherv(mine, [wide, counts] if harp.rank == root else None, root)
        request.wait()

    run(program, 3)


def test_gather_says_how_counts_are_given(run: Run) -> None:
    def program(harp: Harp) -> None:
        harp.Gather(np.ones(1), [np.empty(2), [1, 1]] if harp.rank == 0 else None)

    with pytest.raises(OperatorError, match="without counts"):
        run(program, 2)


def test_a_function_as_op_gets_read_only_arrays_and_must_not_communicate(run: Run) -> None:
    def changes(left: Any, right: Any) -> Any:
        left += right
        return left

    with pytest.raises(UserCodeError, match="ValueError") as caught:
        run(lambda harp: harp.Allreduce(np.ones(3), np.empty(3), changes), 2)
    assert "read-only" in caught.value.what

    def nested(harp: Harp) -> None:
        def communicates(left: Any, right: Any) -> Any:
            harp.Barrier()
            return left + right

        harp.Allreduce(np.ones(3), np.empty(3), communicates)

    with pytest.raises(Twister2Error, match="communicates of a reduction makes a collective call"):
        run(nested, 2)


def test_a_wrong_call_is_named_by_its_line_and_worker(run: Run) -> None:
    def program(harp: Harp) -> None:
        harp.Allreduce(np.empty(4)[:: 1 + harp.rank], np.empty(4)[: 4 - 2 * harp.rank])

    with pytest.raises(OperatorError) as caught:
        run(program, 2)
    assert "test_buffers.py:" in caught.value.where
    assert "worker 1" in caught.value.where


def test_requests_overlap_and_complete_in_any_order(run: Run) -> None:
    def program(harp: Harp) -> None:
        first, second = np.full(10, harp.rank), np.full(2000, harp.rank)
        sums, maxima = np.empty(10, int), np.empty(2000, int)
        one = harp.Iallreduce(first, sums)
        two = harp.Iallreduce(second, maxima, "max")
        two.wait()
        assert maxima.tolist() == [harp.size - 1] * 2000
        while not one.test():
            pass
        assert sums.tolist() == [sum(range(harp.size))] * 10

    run(program, 3)


@pytest.mark.parametrize("n", [0, 3, 5000])
def test_every_call_without_waiting_equals_the_one_that_waits(run: Run, n: int) -> None:
    def program(harp: Harp) -> None:
        ranks, root = range(harp.size), harp.size - 1
        mine, everybody = data(harp.rank, n), np.concatenate([data(rank, n) for rank in ranks])
        total = sum(data(rank, n) for rank in ranks)
        at_root = harp.rank == root

        def out(times: int = 1) -> np.ndarray:
            return np.full(n * times, -1, "int64")

        sent, got = (mine.copy() if at_root else out()), [out() for _ in range(6)]
        wide = [out(harp.size) for _ in range(3)]
        requests = [
            harp.Ibroadcast(sent, root),
            harp.Ireduce(mine, got[0] if at_root else None, "sum", root),
            harp.Iallreduce(mine, got[1]),
            harp.Iscan(mine, got[2]),
            harp.Iexscan(mine, got[3]),
            harp.Ireduce_scatter(everybody, got[4]),
            harp.Igather(mine, wide[0] if at_root else None, root),
            harp.Iallgather(mine, wide[1]),
            harp.Iscatter(everybody if at_root else None, got[5], root),
            harp.Ialltoall(everybody + harp.rank * 1000, wide[2]),
            harp.Ibarrier(),
        ]
        for request in reversed(requests):
            request.wait(20.0)
            assert request.test()
        assert np.array_equal(sent, data(root, n))
        assert np.array_equal(got[0], total if at_root else out())
        assert np.array_equal(got[1], total)
        assert np.array_equal(got[2], sum(data(rank, n) for rank in range(harp.rank + 1)))
        assert np.array_equal(got[3], sum(data(rank, n) for rank in range(harp.rank)) if harp.rank else out())
        assert np.array_equal(got[4], mine * harp.size)
        assert np.array_equal(wide[0], everybody if at_root else out(harp.size))
        assert np.array_equal(wide[1], everybody)
        assert np.array_equal(got[5], mine)
        assert np.array_equal(wide[2], np.concatenate([mine + rank * 1000 for rank in ranks]))

    for size in (1, 2, 3):
        run(program, size)


def test_scatterv_without_waiting(run: Run) -> None:
    counts = [2, 0, 3]

    def program(harp: Harp) -> None:
        mine = np.empty(counts[harp.rank], "int64")
        whole = np.repeat(np.arange(3), counts)
        harp.Iscatterv([whole, counts] if harp.rank == 1 else None, mine, 1).wait(20.0)
        assert mine.tolist() == [harp.rank] * counts[harp.rank]

    run(program, 3)


def test_function_as_op_sees_the_order_of_ranks(run: Run) -> None:
    def keep_left(left: Any, right: Any) -> Any:
        return left

    def program(harp: Harp) -> int:
        out = np.empty(4, "int64")
        harp.Allreduce(np.full(4, harp.rank), out, keep_left)
        return int(out[0])

    assert run(program, 5) == [0] * 5


def test_groups_have_collectives_of_their_own(run: Run) -> None:
    def program(harp: Harp) -> tuple[int, int, int]:
        half = harp.split(harp.rank % 2)
        assert half is not None
        out = np.empty(1, "int64")
        half.Allreduce(np.array([harp.rank]), out)
        assert harp.split(None if harp.rank else "alone") is None or harp.rank == 0
        here = harp.split_by_host()
        return half.rank, int(out[0]), here.size

    assert run(program, 4) == [(0, 2, 4), (0, 4, 4), (1, 2, 4), (1, 4, 4)]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda harp: harp.Allreduce([1.0, 2.0], np.empty(2)), "array"),
        (lambda harp: harp.Allreduce(np.empty(4)[::2], np.empty(2)), "contiguous"),
        (lambda harp: harp.Allreduce(np.array([None, 1]), np.array([None, 1])), "object"),
        (lambda harp: harp.Allreduce(np.empty(2), np.empty(3)), "3"),
        (lambda harp: harp.Allreduce(np.empty(2), np.empty(2), "median"), "median"),
        (lambda harp: harp.Broadcast(np.empty(2), root=7), "7"),
        (lambda harp: harp.Alltoall([np.empty(2), "ab"], np.empty(2)), "counts"),
    ],
)
def test_wrong_buffers_are_named(run: Run, call: Any, named: str) -> None:
    with pytest.raises(Twister2Error, match=named) as caught:
        run(call, 2)
    assert isinstance(caught.value, OperatorError)


def test_different_dtypes_on_different_ranks_raise_everywhere(run: Run) -> None:
    def program(harp: Harp) -> None:
        kind = "float64" if harp.rank else "int64"
        harp.Allreduce(np.ones(3, kind), np.empty(3, kind))

    with pytest.raises(Twister2Error, match="different"):
        run(program, 3)
