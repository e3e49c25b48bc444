"""Faulty operators that :class:`twister2_testkit.ops.OperatorSuite` must reject.

Each is made from a sound catalogue: ``MUTANTS["loses"](operators)`` is the same catalogue with that fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import is_array
from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import UserCodeError
from twister2_testkit.mutants.ops_base import Sound, mutant
from twister2_testkit.mutants.ops_streams import STREAM_FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.spec.batch import Batch
    from twister2.spec.network import Step
    from twister2.spec.ops import Operator, OperatorContext, Operators

_DATA, _END = HeaderKind.DATA, HeaderKind.END


class Loses(Sound):
    """Loses the third batch a target gets."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._seen: dict[int, int] = {}

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(target)
        if item is not None and item.kind == _DATA:
            self._seen[target] = self._seen.get(target, 0) + 1
            if self._seen[target] == 3:
                return self.inner.receive(target)
        return item


class Duplicates(Sound):
    """Delivers the second batch of a target twice."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._seen: dict[int, int] = {}
        self._again: dict[int, Item] = {}

    def receive(self, target: int) -> Item | None:
        if target in self._again:
            return self._again.pop(target)
        item = self.inner.receive(target)
        if item is not None and item.kind == _DATA:
            self._seen[target] = self._seen.get(target, 0) + 1
            if self._seen[target] == 2:
                self._again[target] = item
        return item


class Reorders(Sound):
    """Swaps the first two batches of a target."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._kept: dict[int, Item | None] = {}
        self._due: dict[int, list[Item]] = {}

    def receive(self, target: int) -> Item | None:
        due = self._due.get(target)
        if due:
            return due.pop(0)
        item = self.inner.receive(target)
        if item is None:
            return None
        if target not in self._kept and item.kind == _DATA:
            self._kept[target] = item
            return None
        kept = self._kept.get(target)
        if kept is not None:
            self._kept[target] = None
            if item.kind == _END:
                self._due[target] = [item]
                return kept
            self._due[target] = [kept]
        return item


class IgnoresFinish(Sound):
    """Never ends source 0."""

    def finish(self, source: int) -> None:
        if source != 0:
            self.inner.finish(source)


class EndsTwice(Sound):
    """Gives END twice."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._once_more: set[int] = set()

    def receive(self, target: int) -> Item | None:
        if target in self._once_more:
            self._once_more.discard(target)
            return Item(_END, -1, target)
        item = self.inner.receive(target)
        if item is not None and item.kind == _END:
            self._once_more.add(target)
        return item


class Aliases(Sound):
    """Sends an array by reference and leaves it writable: later changes are seen on the same worker."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._sent: list[Any] = []

    def send(self, source: int, batch: Batch) -> bool:
        if not is_array(batch) or batch.base is not None:
            return self.inner.send(source, batch)
        taken = self.inner.send(source, batch)
        if taken:
            batch.flags.writeable = True
        return taken


class DropsLastPartial(Sound):
    """Forgets the batch that is not full at the end."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._kept: dict[int, Item] = {}

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(target)
        if item is None:
            return None
        kept = self._kept.pop(target, None)
        if item.kind == _DATA:
            self._kept[target] = item
            return kept
        return item


class WrongTarget(Sound):
    """Swaps what targets 0 and 1 get when both are on one worker, else swaps two sources' targets."""

    def _other(self, target: int) -> int:
        both = {0, 1} <= set(self.context.local_targets)
        return 1 - target if both and target < 2 else target

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(self._other(target))
        return None if item is None else Item(item.kind, item.source, target, item.value)


class NeverRefuses(Sound):
    """Takes whatever comes and piles it up."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._pile: list[tuple[int, Batch]] = []
        self._finished: list[int] = []

    def send(self, source: int, batch: Batch) -> bool:
        self._pile.append((source, batch))
        return True

    def finish(self, source: int) -> None:
        if source not in self._finished:
            self._finished.append(source)
        self.progress()

    def progress(self) -> bool:
        moved = False
        while self._pile and self.inner.send(*self._pile[0]):
            self._pile.pop(0)
            moved = True
        if not self._pile:
            for source in self._finished:
                self.inner.finish(source)
        return self.inner.progress() or moved

    @property
    def is_complete(self) -> bool:
        return not self._pile and self.inner.is_complete

    def reset(self, step: Step) -> None:
        self._finished.clear()
        self.inner.reset(step)


class SwallowsUserErrors(Sound):
    """Goes on when a user function raises."""

    def send(self, source: int, batch: Batch) -> bool:
        try:
            return self.inner.send(source, batch)
        except UserCodeError:
            return True


class Forgetful(Sound):
    """Starts afresh without emptying its hands: a second run gets nothing."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._runs = 0

    def reset(self, step: Step) -> None:
        self._runs += 1
        self.inner.reset(step)

    def send(self, source: int, batch: Batch) -> bool:
        return True if self._runs else self.inner.send(source, batch)


class UnalignedBarriers(Sound):
    """Hands on a barrier when it comes from the first source."""

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        if kind != HeaderKind.BARRIER:
            self.inner.mark(source, kind, value)
        elif source == 0:
            for target in self.context.local_targets:
                self._early.append(Item(kind, -1, target, value))

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._early: list[Item] = []

    def receive(self, target: int) -> Item | None:
        for index, item in enumerate(self._early):
            if item.target == target:
                return self._early.pop(index)
        return self.inner.receive(target)


class TakesMemoryAsItLies(Sound):
    """Arrays in the other byte order are taken for ones in this machine's."""

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(target)
        if item is None or item.kind != _DATA or not is_array(item.value) or item.value.dtype.isnative:
            return item
        return Item(item.kind, item.source, target, item.value.view(item.value.dtype.newbyteorder("=")))


MUTANTS: Mapping[str, Callable[[Operators], Operators]] = {
    **{name: mutant(fault) for name, fault in STREAM_FAULTS.items()},
    "loses": mutant(Loses),
    "duplicates": mutant(Duplicates),
    "reorders": mutant(Reorders),
    "ignores_finish": mutant(IgnoresFinish),
    "ends_twice": mutant(EndsTwice),
    "aliases": mutant(Aliases),
    "drops_last_partial": mutant(DropsLastPartial),
    "wrong_target": mutant(WrongTarget),
    "never_refuses": mutant(NeverRefuses),
    "swallows_user_errors": mutant(SwallowsUserErrors),
    "forgetful": mutant(Forgetful),
    "takes_memory_as_it_lies": mutant(TakesMemoryAsItLies),
    "unaligned_barriers": mutant(UnalignedBarriers),
}
"""Faults by name."""

__all__ = ["MUTANTS", "Sound", "mutant"]
