"""Lower case: any objects, in the order of ranks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from twister2.spec.errors import OperatorError, StepMismatchError, Twister2Error, UserCodeError
from twister2_harp import Harp

Run = Callable[..., list[Any]]


def word(rank: int) -> str:
    return chr(97 + rank)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7])
def test_every_collective_keeps_the_order_of_ranks(run: Run, n: int) -> None:
    whole = "".join(map(word, range(n)))

    def program(harp: Harp) -> None:
        mine, root = word(harp.rank), harp.size - 1
        harp.barrier()
        assert harp.broadcast({"it": mine} if harp.rank == root else None, root) == {"it": word(root)}
        assert harp.broadcast(mine, algorithm="chain") == "a"
        assert harp.allreduce(mine) == whole
        assert harp.allreduce(mine, algorithm="tree") == whole
        assert harp.reduce(mine, root=root) == (whole if harp.rank == root else None)
        assert harp.scan(mine) == whole[: harp.rank + 1]
        assert harp.exscan(mine) == (whole[: harp.rank] or None)
        assert harp.gather(mine, root) == (list(whole) if harp.rank == root else None)
        assert harp.allgather(mine) == list(whole)
        assert harp.scatter([mine + other for other in whole] if harp.rank == 0 else None) == "a" + mine
        assert harp.alltoall([mine + other for other in whole]) == [other + mine for other in whole]
        assert harp.reduce_scatter([mine + str(to) for to in range(n)]) == "".join(f"{c}{harp.rank}" for c in whole)
        assert harp.allreduce(None, lambda left, right: left) is None

    run(program, n)


def test_every_call_without_waiting_gives_what_the_one_that_waits_gives(run: Run) -> None:
    def program(harp: Harp) -> None:
        n, root, mine = harp.size, harp.size - 1, word(harp.rank)
        whole = "".join(map(word, range(n)))
        pairs = [mine + other for other in whole]
        to = {(harp.rank + 1) % n: mine}
        calls: list[tuple[str, tuple[Any, ...]]] = [
            ("barrier", ()),
            ("broadcast", (mine, root)),
            ("reduce", (mine, None, root)),
            ("allreduce", (mine,)),
            ("allreduce", (harp.rank, "max")),
            ("scan", (mine,)),
            ("exscan", (mine,)),
            ("reduce_scatter", (pairs,)),
            ("gather", (mine, root)),
            ("allgather", (mine,)),
            ("scatter", (pairs if harp.rank == root else None, root)),
            ("alltoall", (pairs,)),
            ("exchange", (to,)),
        ]
        requests = [getattr(harp, f"i{name}")(*given) for name, given in calls]
        total = np.empty(1)
        harp.Allreduce(np.ones(1), total)  # another call while they are under way
        assert total[0] == n
        while not requests[5].test():
            pass
        assert requests[5].result == whole[: harp.rank + 1]
        found = [request.wait(20.0) for request in reversed(requests)][::-1]
        assert all(request.test() for request in requests)
        assert found == [getattr(harp, name)(*given) for name, given in calls]

    for n in (1, 2, 3, 5):
        run(program, n)


def test_arrays_stay_the_callers_own(run: Run) -> None:
    def program(harp: Harp) -> None:
        mine = np.full(3000, float(harp.rank))
        total = harp.allreduce(mine)
        mine += 1
        total += 1
        assert total.tolist() == [1.0 + sum(range(harp.size))] * 3000

    run(program, 3)


def test_exchange_finds_who_sends(run: Run) -> None:
    def program(harp: Harp) -> dict[int, Any]:
        to = {0: [1, 2], 1: [], 2: [2, 0], 3: [0]}[harp.rank]
        return harp.exchange({rank: (harp.rank, rank) for rank in to})

    came = run(program, 4)
    assert came == [{2: (2, 0), 3: (3, 0)}, {0: (0, 1)}, {0: (0, 2), 2: (2, 2)}, {}]
    assert run(lambda harp: harp.exchange({True: harp.rank}), 2) == [{}, {0: 0, 1: 1}]


def test_what_a_user_op_raises_names_the_values(run: Run) -> None:
    def bad(left: Any, right: Any) -> Any:
        raise KeyError("broken")

    with pytest.raises(UserCodeError, match="KeyError"):
        run(lambda harp: harp.allreduce(harp.rank, bad), 3)
    with pytest.raises(UserCodeError, match="KeyError"):
        run(lambda harp: harp.iallreduce(harp.rank, bad).wait(20.0), 3)

    def program(harp: Harp) -> None:
        request = harp.iallreduce(harp.rank, bad)
        harp.barrier()  # the op may be called in here already
        request.wait(20.0)

    with pytest.raises(UserCodeError, match="KeyError"):
        run(program, 3)


def test_mixed_types_are_named(run: Run) -> None:
    with pytest.raises(Twister2Error, match="cannot combine"):
        run(lambda harp: harp.allreduce("text" if harp.rank else 1), 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda harp: harp.scatter([1]),
        lambda harp: harp.alltoall([1, 2, 3]),
        lambda harp: harp.allreduce(1, "median"),
        lambda harp: harp.broadcast(1, root=5),
        lambda harp: harp.allreduce(1, algorithm="magic"),
        lambda harp: harp.exchange({9: 1}),
        lambda harp: harp.iscatter([1]),
        lambda harp: harp.iallreduce(1, "median"),
        lambda harp: harp.ibroadcast(1, root=5),
        lambda harp: harp.iexchange({9: 1}),
    ],
)
def test_mistakes_are_named(run: Run, call: Any) -> None:
    with pytest.raises(OperatorError):
        run(call, 2)


def test_other_calls_on_other_ranks_are_named_without_waiting_too(run: Run) -> None:
    with pytest.raises(StepMismatchError, match="allreduce"):
        run(lambda harp: (harp.iallreduce(1) if harp.rank else harp.ireduce(1)).wait(20.0), 2)


def adding(kind: str, held: Any) -> Callable[[Any, Any], Any]:
    if kind == "cell":
        return lambda a, b: a + b + held
    if kind == "default":
        return lambda a, b, more=held: a + b + more
    return functools.partial(lambda more, a, b: a + b + more, held)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("kind", ["cell", "default", "partial"])
def test_ops_that_have_captured_different_values_are_different(run: Run, upper: bool, kind: str) -> None:
    def program(harp: Harp, differ: int) -> Any:
        if not upper:
            return harp.allreduce(1, adding(kind, 5 + differ * harp.rank))
        harp.Allreduce(np.ones(2), result := np.empty(2), adding(kind, 5 + differ * harp.rank))
        return int(result[0])

    assert run(lambda harp: program(harp, 0), 2) == [7, 7]
    with pytest.raises(StepMismatchError) as caught:
        run(lambda harp: program(harp, 1), 2)
    assert "op" in caught.value.remedy
    assert "captured" in caught.value.remedy


def test_what_an_op_has_captured_may_change_between_calls(run: Run) -> None:
    def program(harp: Harp, differ: int) -> None:
        held = 1
        op = lambda a, b: a + b + held  # noqa: E731
        result = np.empty(2)
        for held in (1, 2, 2 + differ * harp.rank):
            harp.Allreduce(np.ones(2), result, op)
            assert result[0] == 2 + held

    run(lambda harp: program(harp, 0), 2)
    with pytest.raises(StepMismatchError):
        run(lambda harp: program(harp, 1), 2)
