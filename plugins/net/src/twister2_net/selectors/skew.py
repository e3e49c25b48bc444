"""A selector for uneven keys: hash, but keys that make up much of the records are spread over several targets.

Only for operators that do not promise one target per key. Each source finds its heavy keys by itself, from a sample of
every batch kept in a sketch of bounded size (Misra and Gries, "Finding repeated elements", 1982): a key with the share
``s`` of the records is spread over ``ceil(s * n)`` targets, beginning with the one its hash chooses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, records
from twister2_net.selectors.hashing import Hash
from twister2_net.selectors.key_columns import array_column, arrow_column, by_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2_net.selectors.base import Key

_SAMPLE = 256
"""Keys looked at of a batch."""

_FADE = 1 << 16
"""Keys counted after which older ones count half: what is heavy may change."""


class Sketch:
    """Keys that may make up more than 1/capacity of what was added, with a lower bound of their number."""

    def __init__(self, capacity: int) -> None:
        self.counts: dict[Any, int] = {}
        self.total = 0
        self._capacity = capacity

    def add(self, key: Any) -> None:
        """Count a key."""
        self.total += 1
        counts = self.counts
        if key in counts:
            counts[key] += 1
        elif len(counts) < self._capacity:
            counts[key] = 1
        else:
            self.counts = {one: count - 1 for one, count in counts.items() if count > 1}

    def fade(self) -> None:
        """Let everything count half."""
        self.counts = {one: count // 2 for one, count in self.counts.items() if count > 1}
        self.total //= 2

    def heavy(self, share: float) -> dict[Any, float]:
        """Keys with at least this share, and their shares."""
        least = max(2.0, share * self.total)
        return {key: count / self.total for key, count in self.counts.items() if count >= least}


class Skewed(Hash):
    """See the module's text."""

    def __init__(self, n: int, label: str, task: int, key: Key | None, columns: Sequence[str] = ()) -> None:
        super().__init__(n, label, task, key, columns)
        self._sketch = Sketch(8 * n)
        self._turn = task

    def assign(self, batch: Batch) -> Sequence[int]:
        import numpy

        home = super().assign(batch)
        keys = self._keys(batch)
        step = max(1, len(keys) // _SAMPLE)
        for key in keys[::step].tolist() if is_array(keys) else keys[::step]:
            self._sketch.add(key)
        if self._sketch.total > _FADE:
            self._sketch.fade()
        heavy = self._sketch.heavy(1 / (2 * self.n))
        if not heavy or self.n == 1:
            return home
        targets = numpy.array(home, numpy.int64)
        for key, share in heavy.items():
            width = min(self.n, max(2, -int(-share * self.n // 1)))
            if is_array(keys):
                where = numpy.flatnonzero(keys == key)
            else:
                where = numpy.array([at for at, one in enumerate(keys) if one == key], numpy.int64)
            turns = (self._turn + numpy.arange(len(where))) % width
            targets[where] = (targets[where] + turns) % self.n
            self._turn = (self._turn + len(where)) % self.n
        spread: Any = targets
        found: Sequence[int] = spread
        return found

    def _keys(self, batch: Batch) -> Any:
        """The keys as an array or a list. They have been looked at before: nothing raises here."""
        if by_columns(batch, self.key, self.columns):
            column, codes = arrow_column(batch, self.columns, self.label)
            if codes is None:
                return column
            return [column[code] for code in codes.tolist()]
        if is_array(batch):
            column = array_column(batch, self.key, self.columns, self.label)
            if column is not None:
                return column
        rows = batch.tolist() if is_array(batch) and self.key is None else list(records(batch))
        return rows if self.key is None else list(map(self.key, rows))
