"""Running a source: polled, never waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.graph.runtime.runner import TaskRunner
from twister2.spec.channel import HeaderKind
from twister2.spec.tasks import END, Source

if TYPE_CHECKING:
    from twister2.spec.tasks import Task


class SourceRunner(TaskRunner):
    """Runs one task of a source vertex."""

    task: Source

    def renew(self, task: Task) -> None:
        super().renew(task)
        self._draining = False
        self._barriers: list[int] = []

    def drain(self) -> None:
        """Stop reading at the next turn."""
        self._draining = True

    def checkpoint(self, number: int) -> None:
        """Send BARRIER ``number`` behind what has been read, and note the position."""
        self._barriers.append(number)

    def _advance(self) -> bool:
        if self._barriers:
            number = self._barriers.pop(0)
            self.snapshots[number] = self.guarded("snapshot", self.task.snapshot)
            self._mark(HeaderKind.BARRIER, number)
            return True
        if self._draining:
            self.quiet = False
            self._end()
            return True
        self._invoke(self._polled, "poll", self.task.poll)
        return self.calling or not self.quiet

    def _polled(self, result: Any) -> None:
        self.quiet = result is None
        if result is None:
            return
        if result is END:
            self._end()
            return
        self.guarded("poll", self.emit, result)
        self.counters.count(result)
