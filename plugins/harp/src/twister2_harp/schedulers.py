"""Work inside a worker, on its threads: fixed shares (static) or the next item to whoever is free (dynamic).

Threads help where the function leaves the interpreter: numpy, Arrow, reading files. ``threads`` defaults to the CPUs
that this process may use.
"""

from __future__ import annotations

import os
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
R = TypeVar("R")


def static(function: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> list[R]:
    """Apply a function to all items: thread i takes items i, i + threads, ...; the same share in every run.

    :returns: the results in the order of the items.
    :raises Exception: what the function raised first, by the order of shares; the other threads stop at their next
        item.
    """
    todo = list(items)
    n = _threads(threads, len(todo))
    results: list[Any] = [None] * len(todo)
    failed: list[bool] = []

    def share(first: int) -> None:
        for index in range(first, len(todo), n):
            if failed:
                return
            try:
                results[index] = function(todo[index])
            except BaseException:
                failed.append(True)
                raise

    _together([lambda first=first: share(first) for first in range(n)], failed)  # type: ignore[misc]
    return results


def dynamic(function: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> list[R]:
    """Apply a function to all items, each by the next free thread: for items that take unequally long.

    :returns: the results in the order of the items.
    :raises Exception: what the function raised first; items that were not begun are left.
    """
    todo = list(items)
    queue = iter(range(len(todo)))
    results: list[Any] = [None] * len(todo)
    failed: list[bool] = []

    def work() -> None:
        # next() on one range iterator is atomic under the interpreter lock
        for index in queue:
            if failed:
                return
            try:
                results[index] = function(todo[index])
            except BaseException:
                failed.append(True)
                raise

    _together([work] * _threads(threads, len(todo)), failed)
    return results


def _threads(threads: int | None, n_items: int) -> int:
    return max(1, min(threads or len(os.sched_getaffinity(0)), n_items))


def _together(jobs: list[Callable[[], None]], failed: list[bool]) -> None:
    if len(jobs) == 1:
        jobs[0]()
        return
    with ThreadPoolExecutor(len(jobs), "harp") as pool:
        try:
            futures: list[Future[None]] = [pool.submit(job) for job in jobs]
            wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:  # an interrupt: all stop at their next item
            failed.append(True)
            raise
        first = next((error for future in futures if future.done() and (error := future.exception())), None)
    if first is not None:
        raise first
