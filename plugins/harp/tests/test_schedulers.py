"""Work on the threads of a worker."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from twister2_harp import dynamic, static


@pytest.mark.parametrize("schedule", [static, dynamic])
@pytest.mark.parametrize("threads", [None, 1, 4])
def test_results_are_in_the_order_of_the_items(schedule: Callable[..., Any], threads: int | None) -> None:
    assert schedule(lambda item: item * item, range(50), threads) == [item * item for item in range(50)]
    assert schedule(lambda item: item, [], threads) == []


@pytest.mark.parametrize("schedule", [static, dynamic])
def test_what_the_function_raises_is_raised(schedule: Callable[..., Any]) -> None:
    done: list[int] = []

    def function(item: int) -> None:
        if item == 3:
            raise ValueError("item 3")
        time.sleep(0.001)
        done.append(item)

    with pytest.raises(ValueError, match="item 3"):
        schedule(function, range(1000), 3)
    assert len(done) < 999


@pytest.mark.parametrize("schedule", [static, dynamic])
def test_an_interrupt_leaves_the_items_that_were_not_begun(schedule: Callable[..., Any]) -> None:
    done: list[int] = []

    def function(item: int) -> None:
        if item == 600:  # the caller waits by then
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.001)
        done.append(item)

    with pytest.raises(KeyboardInterrupt):
        schedule(function, range(20_000), 3)
    assert len(done) < 19_000


def test_static_gives_each_thread_the_same_share_in_every_run() -> None:
    def owner(item: int) -> str:
        return threading.current_thread().name

    first = static(owner, range(12), 3)
    assert [len(set(first[start::3])) for start in range(3)] == [1, 1, 1]


def test_dynamic_lets_a_slow_item_keep_nobody_waiting() -> None:
    started = threading.Event()

    def function(item: int) -> str:
        if item == 0:
            assert started.wait(10)
        if item == 19:
            started.set()
        return threading.current_thread().name

    owners = dynamic(function, range(20), 2)
    assert len(set(owners[1:])) == 1
    assert owners[0] != owners[1]
