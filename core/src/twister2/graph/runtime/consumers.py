"""Running computes and sinks: tasks with inputs, whose ends and marks are aligned."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Any

import attrs

from twister2.graph.runtime.runner import Output, TaskRunner
from twister2.spec.channel import HeaderKind, Item
from twister2.spec.ops import Operator
from twister2.spec.tasks import Compute

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2.graph.runtime.failure import TaskPlace
    from twister2.graph.runtime.pool import Pool
    from twister2.spec.tasks import Sink, Task

_NO_MORE: Any = object()


@attrs.define(eq=False)
class Input:
    """One incoming edge of a task. The operator has already aligned marks over its source tasks.

    :ivar target: index of the task in the operator. :ivar ended: END has come.
    :ivar barrier: number of the barrier that has come and is waiting for the other inputs: nothing is taken meanwhile.
    :ivar watermark: the last one, None before the first. :ivar idle: holds back no watermark for now.
    :ivar flush: number of the last flush mark.
    """

    name: str
    operator: Operator
    target: int
    ended: bool = False
    barrier: int | None = None
    watermark: int | None = None
    idle: bool = False
    flush: int = -1

    def renew(self) -> None:
        """Begin another run."""
        self.ended = self.idle = False
        self.barrier = self.watermark = None
        self.flush = -1


class ConsumerRunner(TaskRunner):
    """What computes and sinks have in common: taking items from inputs, in turn, and aligning marks over them."""

    def __init__(
        self, task: Task, place: TaskPlace, inputs: Sequence[Input], outputs: Sequence[Output], pool: Pool | None
    ) -> None:
        self._inputs = tuple(inputs)
        super().__init__(task, place, outputs, pool)

    def renew(self, task: Task) -> None:
        super().renew(task)
        for channel in self._inputs:
            channel.renew()
        self._next = 0
        self._watermark: int | None = None
        self._flushed = -1
        self._idle = False

    def _advance(self) -> bool:
        inputs = self._inputs
        for offset in range(len(inputs)):
            position = (self._next + offset) % len(inputs)
            channel = inputs[position]
            if channel.ended or channel.barrier is not None:
                continue
            item = channel.operator.receive(channel.target)
            if item is not None:
                self._next = position + 1
                self._take(channel, item)
                return True
        return False

    def _take(self, channel: Input, item: Item) -> None:
        if item.kind is HeaderKind.DATA:
            self._batch, self._edge = item.value, channel.name
            channel.idle = False
            self._data(item.value, channel.name)
            return
        if item.kind is HeaderKind.END:
            channel.ended = True
        elif item.kind is HeaderKind.BARRIER:
            channel.barrier = item.value
        elif item.kind is HeaderKind.WATERMARK:
            channel.watermark, channel.idle = item.value, False
        elif item.kind is HeaderKind.IDLE:
            channel.idle = True
        elif item.kind is HeaderKind.FLUSH:
            channel.flush = item.value
        self._align()

    def _align(self) -> None:
        """Act on marks that have come over all inputs. An input that has ended holds back nothing."""
        live = [channel for channel in self._inputs if not channel.ended]
        held = [channel for channel in self._inputs if channel.barrier is not None]
        if held and all(channel.barrier is not None for channel in live):
            number = max(channel.barrier for channel in held if channel.barrier is not None)
            for channel in held:
                channel.barrier = None
            self.snapshots[number] = self.guarded("snapshot", self.task.snapshot)
            self._mark(HeaderKind.BARRIER, number)
        if not live:
            self._finish()
            return
        flush = min(channel.flush for channel in live)
        if flush > self._flushed:
            self._flushed = flush
            self._mark(HeaderKind.FLUSH, flush)
        self._align_time(live)

    def _align_time(self, live: list[Input]) -> None:
        waiting = [channel for channel in live if not channel.idle]
        if not waiting:
            if not self._idle:
                self._mark(HeaderKind.IDLE)
            self._idle = True
            return
        self._idle = False
        marks = [channel.watermark for channel in waiting]
        if any(mark is None for mark in marks):
            return
        reached = min(mark for mark in marks if mark is not None)
        if self._watermark is None or reached > self._watermark:
            self._watermark = reached
            self._time(reached)

    def _data(self, batch: Any, edge: str) -> None:
        raise TypeError(f"{type(self).__name__} takes no data")

    def _finish(self) -> None:
        self._end()

    def _time(self, value: int) -> None:
        """Event time has reached ``value``."""


class ComputeRunner(ConsumerRunner):
    """Runs one task of a compute vertex."""

    task: Compute

    def renew(self, task: Task) -> None:
        super().renew(task)
        if getattr(task, "has_timer", getattr(type(task), "timer", None) is not Compute.timer):
            self.due_ns = 0
        self._last: Iterator[Any] | None = None
        """What is still to come of :meth:`Compute.finish`."""

    def _advance(self) -> bool:
        if self._last is not None:
            self._invoke(self._more, "finish", next, self._last, _NO_MORE)
            return True
        if self.due_ns is not None:
            now = time_ns()
            if now >= self.due_ns:
                self.due_ns = None
                self._invoke(self._timed, "timer", self.task.timer, now, self.emit)
                return True
        return super()._advance()

    def _timed(self, following: int | None) -> None:
        self.due_ns = following

    def _data(self, batch: Any, edge: str) -> None:
        self._invoke(lambda _: self.counters.count(batch), "process", self.task.process, batch, self.emit, edge)

    def _finish(self) -> None:
        self._invoke(self._finished, "finish", self._finish_task)

    def _finish_task(self) -> Iterator[Any] | None:
        last = self.task.finish(self.emit)
        return None if last is None else iter(last)

    def _finished(self, last: Iterator[Any] | None) -> None:
        self._last = last
        if last is None:
            self._end()

    def _more(self, batch: Any) -> None:
        if batch is _NO_MORE:
            self._last = None
            self._end()
        else:
            self.emit(batch)

    def _time(self, value: int) -> None:
        self._invoke(
            lambda _: self._mark(HeaderKind.WATERMARK, value), "watermark", self.task.watermark, value, self.emit
        )


class SinkRunner(ConsumerRunner):
    """Runs one task of a sink vertex."""

    task: Sink

    def _data(self, batch: Any, edge: str) -> None:
        self._invoke(lambda _: self.counters.count(batch), "write", self.task.write, batch, edge)
