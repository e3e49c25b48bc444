"""A rotation under way: every rank's table moves to another rank while the program computes on something else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar
from zlib import crc32

from twister2.spec import patterns
from twister2_harp.table import Table, own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.collectives import Collectives

TableT = TypeVar("TableT", bound=Table)


class Rotation(Generic[TableT]):
    """A step of the group that stays open until the table of the other rank has come."""

    def __init__(self, collectives: Collectives, table: TableT, order: Sequence[int]) -> None:
        rank = collectives.rank
        steps = _hop(rank, table, order[rank], order.index(rank))
        shape = f"{len(order)} ranks, order {crc32(repr(order).encode()):08x}"
        self._request = collectives.start_pattern("harp.rotate", shape, steps)

    def test(self) -> bool:
        """Move the network on; whether the table has come."""
        return self._request.test()

    def wait(self, deadline_s: float | None = None) -> TableT:
        """Until the table has come; gives it.

        :raises DeadlineError: the deadline passed; the rotation goes on.
        """
        self._request.wait(deadline_s)
        return self.result

    @property
    def result(self) -> TableT:
        """The table that came; only when :meth:`test` said True or after :meth:`wait`."""
        table: TableT = self._request.result
        return table


def _hop(rank: int, table: Table, to: int, source: int) -> patterns.Steps:
    came: dict[int, Any] = yield from patterns.neighbours(rank, {to: table}, [source])
    return own(came[source])
