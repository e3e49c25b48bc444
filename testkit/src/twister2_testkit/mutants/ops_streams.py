"""Faults of operators on streams: marks that are lost, overtake or come too early, and records kept across them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twister2.spec.channel import HeaderKind, Item
from twister2_testkit.mutants.ops_base import Sound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.spec.batch import Batch
    from twister2.spec.ops import Operator, OperatorContext

_DATA, _END, _FLUSH = HeaderKind.DATA, HeaderKind.END, HeaderKind.FLUSH


class KeepsAcrossMarks(Sound):
    """An aggregating operator emits at a flush mark what it emitted at the one before, once more."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._before: dict[int, Item] = {}
        self._due: dict[int, Item] = {}
        self._seen: dict[int, Item] = {}

    def receive(self, target: int) -> Item | None:
        if target in self._due:
            return self._due.pop(target)
        item = self.inner.receive(target)
        if item is None or not self.info.holds_records or not self.info.combines:
            return item
        if item.kind == _DATA:
            self._seen[target] = item
        elif item.kind == _FLUSH:
            before, self._before[target] = self._before.get(target), self._seen.pop(target, item)
            if before is not None and before.kind == _DATA:
                self._due[target] = item
                return before
        return item


class JoinKeepsItsRightSide(Sound):
    """A flush mark lets go of the left side of a join only: the right one meets what comes behind the mark, too."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._right: dict[int, list[Batch]] = {}

    def send(self, source: int, batch: Batch) -> bool:
        sent = self.inner.send(source, batch)
        if sent and self.info.name == "join" and self.context.input_of(source) == 1:
            self._right.setdefault(source, []).append(batch)
        return sent

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        self.inner.mark(source, kind, value)
        if kind == _FLUSH:
            for batch in self._right.get(source, ()):
                self.inner.send(source, batch)


class EmitsAtTheEndOnly(Sound):
    """An aggregating operator does not hear flush marks: they pass, and everything comes at the end."""

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        self.inner.mark(source, HeaderKind.BARRIER if kind == _FLUSH else kind, value)

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(target)
        if item is None or item.kind != HeaderKind.BARRIER:
            return item
        return Item(_FLUSH, item.source, target, item.value)


class LosesAMark(Sound):
    """Forgets the second closing mark of a target."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._count: dict[int, int] = {}

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(target)
        if item is not None and item.kind in (_FLUSH, HeaderKind.BARRIER):
            self._count[target] = self._count.get(target, 0) + 1
            if self._count[target] == 2:
                return self.inner.receive(target)
        return item


class MarkOvertakes(Sound):
    """A mark overtakes the batch in front of it."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._late: dict[int, Item] = {}

    def receive(self, target: int) -> Item | None:
        item = self.inner.receive(target)
        late = self._late.pop(target, None)
        if late is not None:
            if item is None:
                return late
            if item.kind in (_DATA, _END):
                self._late[target] = item
                return late
            self._late[target] = late
            return item
        if item is not None and item.kind == _DATA:
            following = self.inner.receive(target)
            if following is None:
                return item
            self._late[target] = item if following.kind not in (_DATA, _END) else following
            return following if following.kind not in (_DATA, _END) else item
        return item


class UnalignedFlush(Sound):
    """Hands on a flush mark when it comes from the first source."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._early: list[Item] = []

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        if kind != _FLUSH:
            self.inner.mark(source, kind, value)
        elif source == 0:
            self._early += [Item(kind, -1, target, value) for target in self.context.local_targets]

    def receive(self, target: int) -> Item | None:
        for index, item in enumerate(self._early):
            if item.target == target:
                return self._early.pop(index)
        return self.inner.receive(target)


class LargestWatermark(Sound):
    """The watermark is that of the source that is furthest."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._largest = 0

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        if kind == HeaderKind.WATERMARK:
            self._largest = value = max(20, value, self._largest)
        self.inner.mark(source, kind, value)


class IdleHoldsBack(Sound):
    """Does not hear that a source is idle."""

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        if kind != HeaderKind.IDLE:
            self.inner.mark(source, kind, value)


class WaitsForMore(Sound):
    """Records move on when there are enough of them, or at a mark."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._held: dict[int, list[Batch]] = {}

    def send(self, source: int, batch: Batch) -> bool:
        held = self._held.setdefault(source, [])
        if len(held) < 8:
            held.append(batch)
            return True
        self._let_go(source)
        return not held and self.inner.send(source, batch)

    def _let_go(self, source: int) -> None:
        held = self._held.get(source, [])
        while held and self.inner.send(source, held[0]):
            held.pop(0)

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        self._let_go(source)
        self.inner.mark(source, kind, value)

    def finish(self, source: int) -> None:
        self._let_go(source)
        self.inner.finish(source)


class ForgetsItsState(Sound):
    """Gives no state at a barrier."""

    def snapshot(self) -> bytes | None:
        return None


class StaleState(Sound):
    """Gives at every barrier the state of the first one."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._first: list[bytes | None] = []

    def snapshot(self) -> bytes | None:
        if not self._first:
            self._first.append(self.inner.snapshot())
        return self._first[0]


class ForgetsOnReset(Sound):
    """Marks of the run before are still due after a reset."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        super().__init__(inner, context)
        self._last: dict[int, Item] = {}
        self._runs = 0

    def receive(self, target: int) -> Item | None:
        if self._runs and target in self._last:
            return self._last.pop(target)
        item = self.inner.receive(target)
        if item is not None and item.kind == _FLUSH:
            self._last[target] = item
        return item

    def reset(self, step: Any) -> None:
        self._runs += 1
        self.inner.reset(step)


STREAM_FAULTS: Final[Mapping[str, type[Sound]]] = {
    "stream_keeps_across_marks": KeepsAcrossMarks,
    "stream_join_keeps_its_right_side": JoinKeepsItsRightSide,
    "stream_emits_at_the_end_only": EmitsAtTheEndOnly,
    "stream_loses_a_mark": LosesAMark,
    "stream_mark_overtakes": MarkOvertakes,
    "stream_unaligned_flush": UnalignedFlush,
    "stream_largest_watermark": LargestWatermark,
    "stream_idle_holds_back": IdleHoldsBack,
    "stream_waits_for_more": WaitsForMore,
    "stream_forgets_its_state": ForgetsItsState,
    "stream_stale_state": StaleState,
    "stream_forgets_on_reset": ForgetsOnReset,
}
"""Faults by name."""
