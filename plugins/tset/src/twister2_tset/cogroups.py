"""Groups of several sets by key: values carry the number of their set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.tasks import Compute, Emit
from twister2_tset.pair_steps import pairs_of

if TYPE_CHECKING:
    from twister2.spec.batch import Batch


class Tag(Compute):
    """Pairs ``(key, (number, value))``."""

    narrow: ClassVar[bool] = True

    def __init__(self, number: int) -> None:
        self._number = number

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Those of one batch."""
        number = self._number
        emit([(key, (number, value)) for key, value in pairs_of(batch, "co_group")])


class CoGrouped(Compute):
    """Pairs ``(key, (values of set 0, values of set 1, ...))`` of groups of tagged values."""

    narrow: ClassVar[bool] = True

    def __init__(self, n: int) -> None:
        self._n = n

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Those of one batch."""
        found = []
        for key, values in batch:
            sides: tuple[list[Any], ...] = tuple([] for _ in range(self._n))
            for number, value in values:
                sides[number].append(value)
            found.append((key, sides))
        emit(found)
