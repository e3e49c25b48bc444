"""Running fused sources and sinks."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from twister2.graph.fused_ends import Batches
from twister2.graph.runtime.consumers import ComputeRunner, SinkRunner
from twister2.graph.runtime.sources import SourceRunner

_NONE_LEFT = object()

if TYPE_CHECKING:
    from twister2.graph.fused_ends import FusedSink, FusedSource


class FusedSourceRunner(SourceRunner):
    """Runs a source with computes behind it. Where the computes belong into the pool, the source is still read in the
    thread that runs the step.
    """

    task: FusedSource

    def _advance(self) -> bool:
        if self._barriers:
            return super()._advance()
        if self._draining:
            self.task.stop()
        if self.pool is not None and self.task.reads_elsewhere:
            self._invoke(self._polled, "poll", self.task.poll)
            return True
        begin = perf_counter()
        batch = self.guarded("poll", self.task.read)
        self.counters.busy_s += perf_counter() - begin
        if self.pool is not None:
            self._invoke(self._polled, "process", self.task.run, batch)
            return True
        pieces, number = self.task.pieces(batch), 0
        while (piece := self.guarded("pieces", next, pieces, _NONE_LEFT)) is not _NONE_LEFT:
            if number:
                self._flush()  # what is not taken waits, as that of a whole batch would
            number += 1
            self._invoke(self._polled, "process", self.task.run, piece)
        return not self.quiet

    def _polled(self, result: Any) -> None:
        if not isinstance(result, Batches):
            super()._polled(result)
            return
        self.quiet = False
        for batch, edge in result:
            self.guarded("process", self.emit, batch, edge)
            self.counters.count(batch)


class FusedSinkRunner(ComputeRunner, SinkRunner):
    """Runs computes with a sink behind them. Nothing leaves it; it commits and keeps as any sink."""

    task: FusedSink
