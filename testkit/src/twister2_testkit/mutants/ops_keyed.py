"""Faulty keyed_gather, join and spilling that :class:`twister2_testkit.ops_keyed.KeyedChecks` and
:class:`twister2_testkit.ops_spill.SpillChecks` must reject.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.channel import HeaderKind, Item
from twister2.spec.ops import Operator, OperatorContext, OperatorInfo, Operators
from twister2.worker.memory import Memory
from twister2_testkit.mutants.ops_base import Sound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class _Changes(Sound):
    """Changes the batches of some operators."""

    names: tuple[str, ...] = ("keyed_gather", "join")

    @abstractmethod
    def change(self, records: list[Any]) -> list[Any]:
        """The batch it delivers instead."""

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(target)
        applies = item is not None and item.kind == HeaderKind.DATA and isinstance(item.value, list)
        if item is None or not applies or self.info.name not in self.names:
            return item
        return attrs.evolve(item, value=self.change(item.value))


class LosesValues(_Changes):
    """Groups lack their last value."""

    names = ("keyed_gather",)

    def change(self, records: list[Any]) -> list[Any]:
        return [(key, list(values)[:-1] if isinstance(values, list) else values) for key, values in records]


class SplitsGroups(_Changes):
    """A group of several values comes in two parts."""

    names = ("keyed_gather",)

    def change(self, records: list[Any]) -> list[Any]:
        found = []
        for key, values in records:
            if isinstance(values, list) and len(values) > 1:
                found += [(key, values[:1]), (key, values[1:])]
            else:
                found.append((key, values))
        return found


class _Once:
    """Values that are gone once they were read."""

    def __init__(self, values: Any) -> None:
        self._values = list(values)
        self._walk = iter(self._values)

    def __iter__(self) -> Iterator[Any]:
        return self._walk

    def __len__(self) -> int:
        return len(self._values)


class ReadOnce(_Changes):
    """Values of a group can be read once only."""

    names = ("keyed_gather",)

    def change(self, records: list[Any]) -> list[Any]:
        return [(key, _Once(values) if isinstance(values, list) else values) for key, values in records]


class Backwards(_Changes):
    """Batches come in the wrong order of keys."""

    def change(self, records: list[Any]) -> list[Any]:
        return records[::-1]


class InnerOnly(_Changes):
    """Records without a partner are lost."""

    names = ("join",)

    def change(self, records: list[Any]) -> list[Any]:
        return [record for record in records if None not in record[1]]


class RepeatsMatches(_Changes):
    """A pair of a join comes twice."""

    names = ("join",)

    def change(self, records: list[Any]) -> list[Any]:
        return [*records, records[0]]


class Swapped(_Changes):
    """Left and right are exchanged."""

    names = ("join",)

    def change(self, records: list[Any]) -> list[Any]:
        return [(key, (right, left)) for key, (left, right) in records]


class Remembers(Sound):
    """On streams, what came before a flush mark comes again behind it."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._seen: list[Item] = []
        self._again: list[Item] = []

    def receive(self, target: int) -> Item | None:
        if self._again:
            return self._again.pop(0)
        item = self.inner.receive(target)
        if item is not None and item.kind == HeaderKind.DATA and self.context.mode == "stream":
            self._seen.append(item)
        if item is not None and item.kind == HeaderKind.FLUSH:
            self._again, self._seen = self._seen, []
        return item


class _Contexts(Operators):
    """A catalogue whose operators are made for another context."""

    def __init__(self, operators: Operators, change: Callable[[OperatorContext], OperatorContext]) -> None:
        self._operators = operators
        self._change = change

    def catalog(self) -> Mapping[str, OperatorInfo]:
        return self._operators.catalog()

    def create(self, context: OperatorContext) -> Operator:
        return self._operators.create(self._change(context))


def never_spills(operators: Operators) -> Operators:
    """What is held counts nowhere, and never goes to disk."""
    return _Contexts(operators, lambda context: attrs.evolve(context, memory=Memory(0)))


def keeps_memory(operators: Operators) -> Operators:
    """Memory is not given back in the end."""

    def keep(context: OperatorContext) -> OperatorContext:
        context.memory.reserve("forgotten", 1)
        return context

    return _Contexts(operators, keep)


class ForgetsState(Sound):
    """A snapshot has nothing of what is held."""

    def snapshot(self) -> bytes | None:
        return None

    def restore(self, state: bytes) -> None:
        """Nothing was kept."""


KEYED_FAULTS: Mapping[str, type[Sound]] = {
    "loses_values": LosesValues,
    "splits_groups": SplitsGroups,
    "read_once": ReadOnce,
    "backwards": Backwards,
    "inner_only": InnerOnly,
    "repeats_matches": RepeatsMatches,
    "swapped": Swapped,
    "remembers": Remembers,
    "forgets_state": ForgetsState,
}
"""Faults of single operators, by name."""
