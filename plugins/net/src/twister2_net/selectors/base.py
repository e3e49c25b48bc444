"""What all selectors are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twister2.spec.batch import Batch

Key = Callable[[Any], Any]


class Selector(ABC):
    """Chooses targets for the records of one local source.

    :param n: number of targets. :param label, task: for messages.
    """

    def __init__(self, n: int, label: str, task: int) -> None:
        self.n = n
        self.label = label
        self.task = task

    @abstractmethod
    def assign(self, batch: Batch) -> Sequence[int]:
        """One target per record; an array of integers for arrays where that is faster."""
