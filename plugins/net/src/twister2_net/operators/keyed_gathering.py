"""keyed_gather: all values of a key at the target of the key, in groups or pair by pair, held until a mark or the end.

Pairs are held in a table that goes to disk when memory gets short; numpy arrays and Arrow batches stay columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow
from twister2_net.operators.keyed_holding import Held, HeldPairs, HoldingOperator, form_name, pairs_of
from twister2_net.problems import wrong_option
from twister2_net.spilling.sorted_columns import ArrayForm, ArrowForm, SortedColumns, grouped_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twister2_net.spilling.sorted_columns import ColumnForm
    from twister2_net.spilling.tables import Group


class KeyedGather(HoldingOperator):
    """All values of each key at its target."""

    def prepare(self) -> None:
        super().prepare()
        self.grouped = self.delivers_groups = bool(self.options["grouped"])
        self.keeps_arrays = not self.grouped

    def make(self, target: int, batch: Batch) -> Held:
        order = self.options["order"]
        if is_arrow(batch) or (is_array(batch) and self.keeps_arrays):
            if callable(order):
                raise wrong_option(
                    self.label,
                    "order",
                    f"{form_name(batch)} are sorted by the values of their key columns",
                    "give order=True, or send pairs",
                )
            form = ArrowForm(self.columns, self.label) if is_arrow(batch) else ArrayForm(self.label)
            return HeldColumns(self, target, form, grouped=self.grouped)
        return HeldPairs(self, target, 1)

    def pairs(self, side: int, batch: Batch) -> list[tuple[Any, Any]]:
        return pairs_of(batch, self.label)

    def delivered(self, groups: Iterator[Group]) -> Iterator[Any]:
        if self.grouped:
            return ((key, values) for key, (values,) in groups)
        return ((key, value) for key, (values,) in groups for value in values)


class HeldColumns(Held):
    """Columns, sorted by key. :param grouped: delivered with one row per key (Arrow only)."""

    def __init__(self, owner: HoldingOperator, task: int, form: ColumnForm, *, grouped: bool) -> None:
        self._columns = SortedColumns(owner.context.memory, owner.holder(task), [form])
        self._form = form
        self._grouped = grouped
        self._rows = owner.config.batch_records

    def add(self, side: int, batch: Batch) -> None:
        self._columns.add(side, batch)

    def emit(self) -> Iterator[Batch]:
        windows = self._columns.windows()
        if windows is None:
            yield from self._made([self._form.sorted(self._columns.here(0))])
            return
        for window in windows:
            parts = (part for _, part in window.parts)
            if window.below:
                yield from self._made([self._form.whole(list(parts))])
            elif self._grouped:
                some = list(parts)
                yield from self._made([self._form.whole(some)] if some else [])
            else:
                yield from self._made(parts)

    def _made(self, blocks: Iterable[Any]) -> Iterator[Batch]:
        for block in blocks:
            if self._grouped and isinstance(self._form, ArrowForm):
                yield from batches_of(grouped_rows(self._form, block), self._rows)
            else:
                yield from batches_of(block, self._rows)

    def state(self) -> Any:
        state = self._columns.state()
        return None if state is None else ("batches", state)

    def add_back(self, state: Any) -> None:
        for side, batch in state[1]:
            self._columns.add(side, batch)

    def close(self) -> None:
        self._columns.close()


def batches_of(block: Any, rows: int) -> Iterator[Batch]:
    """A block in batches of at most so many records."""
    if is_arrow(block):
        if hasattr(block, "to_batches"):
            yield from block.to_batches(max_chunksize=rows)
            return
        for start in range(0, block.num_rows, rows):
            yield block.slice(start, rows)
        return
    for start in range(0, len(block), rows):
        yield block[start : start + rows]
