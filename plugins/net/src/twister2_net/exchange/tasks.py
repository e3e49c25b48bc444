"""Operators that pass batches on from task to task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2_net.exchange.lanes import END, LaneOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.channel import HeaderKind


class TaskOperator(LaneOperator):
    """Lanes are tasks; marks follow the data of their source at once."""

    coalesces = True

    def lanes(self) -> tuple[Sequence[int], Sequence[int]]:
        return self.context.sources, self.context.targets

    def marked(self, source: int, kind: HeaderKind, value: Any) -> None:
        self.push_all(source, kind, value)

    def finished(self, source: int) -> None:
        self.push_all(source, END)
