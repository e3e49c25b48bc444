"""Calls that give a result, without waiting; and what those on tables send: patterns of one or more rounds, each call
one step of the group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy

from twister2.spec import patterns
from twister2.spec.errors import OperatorError, StepAbortedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from twister2.spec.collectives import ObjectRequest
    from twister2_harp.table import Table

T = TypeVar("T")
Homes = dict[int, int]
"""Rank of every partition of a global table."""


class ResultRequest(Generic[T]):
    """A call on objects or tables that is under way while the program computes on something else. What it was given
    must be left alone until it is complete.
    """

    def __init__(
        self, start: Callable[[Callable[[patterns.Steps], patterns.Steps]], ObjectRequest], finish: Callable[[Any], T]
    ) -> None:
        """
        :param start: begins the call; steps of its own it puts into the function that it is given.
        :param finish: makes the caller's result of what came.
        """
        self._failed: Exception | None = None
        self._finish: Callable[[Any], T] | None = finish
        self._result: T
        self._request = start(self._guarded)

    def _guarded(self, steps: patterns.Steps) -> patterns.Steps:
        """The steps are moved on by whatever call the program is in: an error of theirs is shown by this one too."""
        try:
            return (yield from steps)
        except Exception as error:
            self._failed = error
            raise

    def test(self) -> bool:
        """Move the network on; whether the call is complete."""
        try:
            return self._request.test() and self._finished()
        except StepAbortedError as error:
            raise self._failed or error from None

    def wait(self, deadline_s: float | None = None) -> T:
        """Until the call is complete; gives its result.

        :raises DeadlineError: the deadline passed; the call goes on.
        """
        try:
            self._request.wait(deadline_s)
        except StepAbortedError as error:
            raise self._failed or error from None
        self._finished()
        return self._result

    @property
    def result(self) -> T:
        """The result of the call; only when :meth:`test` said True or after :meth:`wait`."""
        return self._result

    def _finished(self) -> bool:
        finish, self._finish = self._finish, None
        if finish is not None:
            self._result = finish(self._request.result)
        return True


def rotation(rank: int, table: Table, to: int, source: int) -> patterns.Steps:
    """The table to a rank, another one from a rank."""
    came: dict[int, Any] = yield from patterns.neighbours(rank, {to: table}, [source])
    return came[source]


def push(
    rank: int, size: int, ids: list[int], shares: Callable[[Homes], Sequence[Table]]
) -> patterns.Steps:  # fmt: skip
    """Who has what, then the shares that follow from it."""
    homes = homes_of((yield from patterns.allgather(rank, size, ids)))
    return (yield from patterns.alltoall(rank, size, shares(homes)))


def pull(
    rank: int,
    size: int,
    ids: list[int],
    wanted: Callable[[Homes], Sequence[list[int]]],
    answer: Callable[[list[int]], Table],
) -> patterns.Steps:
    """Who has what, then what is wanted from there, then the answers."""
    homes = homes_of((yield from patterns.allgather(rank, size, ids)))
    asked = yield from patterns.alltoall(rank, size, wanted(homes))
    return (yield from patterns.alltoall(rank, size, [answer(share) for share in asked]))


def aggregation(
    rank: int, size: int, shares: Sequence[Table], combined: Callable[[Sequence[Table]], Table]
) -> patterns.Steps:
    """The shares to where they belong, then what was made of them there to everybody."""
    mine = combined((yield from patterns.alltoall(rank, size, shares)))
    return (yield from patterns.allgather(rank, size, mine))


def neighbour_exchange(rank: int, size: int, values: Mapping[int, Any]) -> patterns.Steps:
    """How many send to each rank, then a value to each of some ranks, whoever they are."""
    counts = numpy.zeros(size, dtype=numpy.int64)
    counts[[int(rank) for rank in values]] = 1
    incoming = yield from patterns.allreduce_for(size)(rank, size, counts, numpy.add)
    return (yield from patterns.sparse(rank, values, int(incoming[rank])))


def homes_of(everybody: Iterable[Sequence[int]]) -> Homes:
    """From the ids that each rank has.

    :raises OperatorError: two ranks have one id.
    """
    homes: Homes = {}
    for rank, ids in enumerate(everybody):
        for partition in ids:
            if homes.setdefault(partition, rank) != rank:
                raise OperatorError(
                    f"partition {partition} is on ranks {homes[partition]} and {rank}",
                    why="a partition of a global table has one home",
                    remedy="regroup the table first",
                )
    return homes
