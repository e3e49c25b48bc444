"""In turn."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_records
from twister2_net.selectors.base import Selector

if TYPE_CHECKING:
    from collections.abc import Sequence


class RoundRobin(Selector):
    """In turn; source i begins with target i, so that small inputs spread too."""

    def __init__(self, n: int, label: str, task: int) -> None:
        super().__init__(n, label, task)
        self._next = task % n

    def assign(self, batch: Batch) -> Sequence[int]:
        count, first = n_records(batch), self._next
        self._next = (first + count) % self.n
        if is_array(batch) or is_arrow(batch):
            import numpy

            spread: Any = numpy.arange(first, first + count) % self.n
            targets: Sequence[int] = spread
            return targets
        return list(itertools.islice(itertools.cycle([*range(first, self.n), *range(first)]), count))
