"""What mutants of operators are made from: a wrapper that passes every call on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.ops import Operator, OperatorContext, OperatorInfo, Operators

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.spec.batch import Batch
    from twister2.spec.channel import HeaderKind, Item
    from twister2.spec.network import EdgeCounters, Step


class Sound(Operator):
    """Passes every call to a sound operator; mutants change one thing."""

    def __init__(self, inner: Operator, context: OperatorContext) -> None:
        self.inner = inner
        self.context = context
        self.info = inner.info

    def send(self, source: int, batch: Batch) -> bool:
        return self.inner.send(source, batch)

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        self.inner.mark(source, kind, value)

    def finish(self, source: int) -> None:
        self.inner.finish(source)

    def progress(self) -> bool:
        return self.inner.progress()

    def receive(self, target: int) -> Item | None:
        return self.inner.receive(target)

    @property
    def is_complete(self) -> bool:
        return self.inner.is_complete

    def reset(self, step: Step) -> None:
        self.inner.reset(step)

    def snapshot(self) -> bytes | None:
        return self.inner.snapshot()

    def restore(self, state: bytes) -> None:
        self.inner.restore(state)

    def close(self) -> None:
        self.inner.close()

    @property
    def counters(self) -> EdgeCounters:
        return self.inner.counters


class _Mutated(Operators):
    def __init__(self, operators: Operators, fault: type[Sound]) -> None:
        self._operators = operators
        self._fault = fault

    def catalog(self) -> Mapping[str, OperatorInfo]:
        return self._operators.catalog()

    def create(self, context: OperatorContext) -> Operator:
        return self._fault(self._operators.create(context), context)


def mutant(fault: type[Sound]) -> Callable[[Operators], Operators]:
    """A function from a sound catalogue to one with this fault."""
    return lambda operators: _Mutated(operators, fault)
