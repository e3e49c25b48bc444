"""Faulty sort, distinct, co_group, cross, zip, number and aggregate, which the suite must reject."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.channel import HeaderKind, Item
from twister2_testkit.mutants.ops_base import Sound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.spec.batch import Batch
    from twister2.spec.ops import Operator, OperatorContext


class _Changes(Sound):
    """Changes the lists that one operator delivers."""

    name = ""

    @abstractmethod
    def change(self, records: list[Any]) -> list[Any]:
        """The batch it delivers instead."""

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(target)
        applies = item is not None and item.kind == HeaderKind.DATA and isinstance(item.value, list)
        if item is None or not applies or self.info.name != self.name:
            return item
        return attrs.evolve(item, value=self.change(item.value))


class Unstable(_Changes):
    """Sorting turns the order of neighbours with equal keys round."""

    name = "sort"

    def change(self, records: list[Any]) -> list[Any]:
        key = self.context.options.get("key")
        return sorted(records[::-1], key=key) if callable(key) and "descending" not in self.context.options else records


class LosesLast(_Changes):
    """The largest record of a target is lost."""

    name = "sort"

    def change(self, records: list[Any]) -> list[Any]:
        return records[:-1] if len(records) > 1 else records


class UnsortedColumns(Sound):
    """Columns come as they were sent."""

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(target)
        if item is None or self.info.name != "sort" or item.kind != HeaderKind.DATA or isinstance(item.value, list):
            return item
        value = item.value
        backwards = value[::-1] if not hasattr(value, "schema") else value.take(list(range(value.num_rows))[::-1])
        return attrs.evolve(item, value=backwards)


class KeepsTwo(_Changes):
    """A record that is there once comes twice."""

    name = "distinct"

    def change(self, records: list[Any]) -> list[Any]:
        return [*records, records[0]]


class LastOfEqual(Sound):
    """Of records with equal keys another one stays."""

    def send(self, source: int, batch: Batch) -> bool:
        backwards = self.info.name == "distinct" and isinstance(batch, list)
        return self.inner.send(source, batch[::-1] if backwards else batch)


class ForgetsAnInput(_Changes):
    """The values of the last input are lost."""

    name = "co_group"

    def change(self, records: list[Any]) -> list[Any]:
        return [(key, (*groups[:-1], [])) for key, groups in records]


class SwapsSides(_Changes):
    """Left and right of a cross are exchanged."""

    name = "cross"

    def change(self, records: list[Any]) -> list[Any]:
        return [(right, left) for left, right in records]


class Shifted(_Changes):
    """Each record of a zip comes beside the partner of the one before, however batches are cut."""

    name = "zip"

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._last: dict[int, Any] = {}
        self._target = -1

    def receive(self, target: int) -> Item | None:
        self._target = target
        return super().receive(target)

    def change(self, records: list[Any]) -> list[Any]:
        rights = [right for _, right in records]
        before = self._last.get(self._target, rights[-1])
        self._last[self._target] = rights[-1]
        return list(zip([left for left, _ in records], [before, *rights[:-1]], strict=True))


class CountsAnew(_Changes):
    """Every batch is numbered from the start."""

    name = "number"

    def change(self, records: list[Any]) -> list[Any]:
        return [(self.context.options.get("start", 0) + at, record) for at, (_, record) in enumerate(records)]


class OneTooMany(_Changes):
    """Aggregates that are integers are one too large."""

    name = "aggregate"

    def change(self, records: list[Any]) -> list[Any]:
        return [record + 1 if isinstance(record, int) else record for record in records]


class LosesKeys(Sound):
    """The last row of a table of aggregates is lost."""

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(target)
        lossy = item is not None and item.kind == HeaderKind.DATA and hasattr(item.value, "schema")
        if item is None or not lossy or self.info.name != "aggregate":
            return item
        return attrs.evolve(item, value=item.value.slice(0, item.value.num_rows - 1))


SET_FAULTS: Mapping[str, type[Sound]] = {
    "unstable": Unstable,
    "loses_last": LosesLast,
    "unsorted_columns": UnsortedColumns,
    "keeps_two": KeepsTwo,
    "last_of_equal": LastOfEqual,
    "forgets_an_input": ForgetsAnInput,
    "swaps_sides": SwapsSides,
    "shifted": Shifted,
    "counts_anew": CountsAnew,
    "one_too_many": OneTooMany,
    "loses_keys": LosesKeys,
}
"""Faults of single operators, by name."""
