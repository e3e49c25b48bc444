"""Events: in order, outside of steps, and no wait without an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twister2.spec.errors import DeadlineError, NetworkError, OperatorError
from twister2_harp import Harp

Run = Callable[..., list[Any]]


def test_events_come_in_order_beside_collectives(run: Run) -> None:
    def program(harp: Harp) -> list[int]:
        if harp.rank:
            for number in range(100):
                harp.events.send(0, number)
            harp.allreduce(1)
            return []
        events = harp.events
        harp.allreduce(1)
        return [events.wait().value for _ in range(100 * (harp.size - 1))]

    came = run(program, 3)[0]
    assert sorted(came) == sorted(list(range(100)) * 2)


def test_everybody_sends_to_everybody_at_once(run: Run) -> None:
    def program(harp: Harp) -> int:
        for number in range(200):
            harp.events.send_all((harp.rank, number))
        harp.events.send(harp.rank, "mine")
        seen = [harp.events.wait() for _ in range(200 * (harp.size - 1) + 1)]
        for rank in range(harp.size):
            if rank != harp.rank:
                assert [event.value[1] for event in seen if event.source == rank] == list(range(200))
        return len(seen)

    assert run(program, 3) == [401] * 3


def test_get_never_waits_and_wait_has_a_deadline(run: Run) -> None:
    def program(harp: Harp) -> None:
        assert harp.events.get() is None
        with pytest.raises(DeadlineError) as caught:
            harp.events.wait(0.1)
        assert caught.value.where.rpartition(":")[0] == __file__
        assert f"worker {1 - harp.rank} " in caught.value.why
        harp.barrier()

    run(program, 2)


def test_a_wait_for_those_who_have_returned_ends(run: Run) -> None:
    def program(harp: Harp) -> None:
        events = harp.events
        if harp.rank == 0:
            with pytest.raises(NetworkError, match="returned"):
                events.wait(20)

    run(program, 3)


def test_no_such_rank(run: Run) -> None:
    with pytest.raises(OperatorError, match="no rank 5"):
        run(lambda harp: harp.events.send(5, 1), 2)


def test_a_peer_that_is_gone_silences_no_goodbye_to_others(run: Run) -> None:
    def program(harp: Harp) -> int:
        events = harp.events
        if harp.rank == 0:
            events.send(2, "last words")
            send = events._port.send

            def broken(source: int, target: int, *more: Any) -> bool:
                if target == 1:
                    raise NetworkError("rank 1 is gone", why="its process ended", remedy="none")
                return send(source, target, *more)

            events._port.send = broken  # type: ignore[method-assign]
        if harp.rank == 2:
            assert events.wait(10).value == "last words"
            with pytest.raises(NetworkError, match="returned"):
                events.wait(10)
        return harp.rank

    assert run(program, 3) == [0, 1, 2]
