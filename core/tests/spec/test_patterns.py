"""Every pattern, simulated: right answers in rank order, for any number of members and any root."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec import patterns

SIZES = st.integers(1, 17)


def simulate(runs: list[patterns.Steps]) -> list[Any]:
    """Run one generator per rank; messages between two ranks keep their order."""
    mail: dict[tuple[int, int], deque[Any]] = {}
    wishes: list[Any] = [None] * len(runs)
    results: list[Any] = [None] * len(runs)
    done = [False] * len(runs)
    answers: list[Any] = [None] * len(runs)
    while not all(done):
        moved = False
        for rank, run in enumerate(runs):
            while not done[rank]:
                wish = wishes[rank]
                if isinstance(wish, int):
                    sources = range(len(runs)) if wish == patterns.ANY else [wish]
                    came = next((one for one in sources if mail.get((one, rank))), None)
                    if came is None:
                        break
                    value = mail[came, rank].popleft()
                    answers[rank] = (came, value) if wish == patterns.ANY else value
                try:
                    wishes[rank] = run.send(answers[rank])
                    answers[rank] = None
                except StopIteration as stop:
                    done[rank], results[rank] = True, stop.value
                else:
                    if not isinstance(wishes[rank], int):
                        to, value = wishes[rank]
                        assert to != rank
                        mail.setdefault((rank, to), deque()).append(value)
                        wishes[rank] = None
                moved = True
        assert moved, f"deadlock: {wishes}"
    assert not any(mail.values()), "messages were left"
    return results


def text(size: int) -> str:
    return "".join(chr(97 + rank) for rank in range(size))


def concat(left: str, right: str) -> str:
    return left + right


@pytest.mark.parametrize("name", sorted(patterns.ALLREDUCE))
@given(size=SIZES)
def test_allreduce_combines_in_rank_order(name: str, size: int) -> None:
    runs = [patterns.ALLREDUCE[name](rank, size, chr(97 + rank), concat) for rank in range(size)]
    assert simulate(runs) == [text(size)] * size


@pytest.mark.parametrize("name", sorted(patterns.REDUCE))
@given(size=SIZES, root=st.integers(0, 16))
def test_reduce_combines_in_rank_order_for_any_root(name: str, size: int, root: int) -> None:
    root %= size
    runs = [patterns.REDUCE[name](rank, size, chr(97 + rank), concat, root) for rank in range(size)]
    assert simulate(runs) == [text(size) if rank == root else None for rank in range(size)]


@pytest.mark.parametrize("name", sorted(patterns.BROADCAST))
@given(size=SIZES, root=st.integers(0, 16))
def test_broadcast(name: str, size: int, root: int) -> None:
    root %= size
    runs = [patterns.BROADCAST[name](rank, size, rank, root) for rank in range(size)]
    assert simulate(runs) == [root] * size


@given(size=SIZES)
def test_scan_and_exscan(size: int) -> None:
    whole = text(size)
    scans = simulate([patterns.scan(rank, size, chr(97 + rank), concat) for rank in range(size)])
    assert scans == [whole[: rank + 1] for rank in range(size)]
    exscans = simulate([patterns.exscan(rank, size, chr(97 + rank), concat) for rank in range(size)])
    assert exscans == [whole[:rank] or None for rank in range(size)]


@given(size=SIZES, root=st.integers(0, 16))
def test_moving_values(size: int, root: int) -> None:
    root %= size
    everybody = list(range(size))
    gathered = simulate([patterns.gather(rank, size, rank, root) for rank in range(size)])
    assert gathered == [everybody if rank == root else None for rank in range(size)]
    assert simulate([patterns.allgather(rank, size, rank) for rank in range(size)]) == [everybody] * size
    given_ = [everybody if rank == root else None for rank in range(size)]
    assert simulate([patterns.scatter(rank, size, given_[rank], root) for rank in range(size)]) == everybody
    swapped = simulate([patterns.alltoall(rank, size, [(rank, to) for to in range(size)]) for rank in range(size)])
    assert swapped == [[(source, rank) for source in range(size)] for rank in range(size)]


@given(size=SIZES, data=st.data())
def test_sparse_finds_who_sends(size: int, data: st.DataObject) -> None:
    targets = [data.draw(st.sets(st.integers(0, size - 1))) for _ in range(size)]
    expected = [{rank: (rank, me) for rank in range(size) if me in targets[rank]} for me in range(size)]
    runs = [
        patterns.sparse(rank, {to: (rank, to) for to in targets[rank]}, len(expected[rank])) for rank in range(size)
    ]
    assert simulate(runs) == expected


@given(size=SIZES)
def test_neighbours_of_a_ring(size: int) -> None:
    runs = [
        patterns.neighbours(rank, {(rank + 1) % size: rank, (rank - 1) % size: rank},
                            sorted({(rank - 1) % size, (rank + 1) % size}))
        for rank in range(size)
    ]  # fmt: skip
    results = simulate(runs)
    assert all(value == source for came in results for source, value in came.items())
