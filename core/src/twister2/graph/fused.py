"""A chain of narrow computes as one task: a batch runs through all of them without leaving the call."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import attrs

from twister2.graph.records import note_vertex
from twister2.spec.batch import Batch, n_records, own
from twister2.spec.errors import GraphError
from twister2.spec.tasks import Compute, Emit, Task, TaskContext, has_own
from twister2.spec.values import Value

_T = TypeVar("_T")

_DEEPEST = 64
"""Computes that are called one inside another: each takes three frames of Python's stack, which holds a thousand. In
longer chains what the last of them emits waits until they have returned."""


@attrs.frozen(eq=False, repr=False)
class FusedFactory(Value):
    """``make(index)`` of a fused vertex.

    :ivar names: the computes, first to last. :ivar edges: names of the edges between them, one less.
    """

    names: tuple[str, ...]
    edges: tuple[str, ...]
    makes: tuple[Callable[[int], Task], ...]

    def __call__(self, index: int) -> FusedCompute:
        computes = []
        for name, make in zip(self.names, self.makes, strict=True):
            task = make(index)
            if not isinstance(task, Compute):
                raise GraphError(
                    f"the factory of compute {name!r} gave {type(task).__name__}",
                    why="a compute vertex is made of twister2.spec.tasks.Compute objects",
                    remedy="let make(index) return a Compute",
                )
            computes.append(task)
        return FusedCompute(self.names, self.edges, computes)


class FusedCompute(Compute):
    """Runs computes one inside another; an error names the one that raised."""

    narrow = True

    def __init__(self, names: tuple[str, ...], edges: tuple[str, ...], computes: list[Compute]) -> None:
        self.names = names
        self.computes = computes
        self.blocking = self.releases_gil = self.has_timer = False
        for compute in computes:
            self.blocking = self.blocking or getattr(compute, "blocking", False)
            self.releases_gil = self.releases_gil or getattr(compute, "releases_gil", False)
            self.has_timer = self.has_timer or type(compute).timer is not Compute.timer
        self._edges = edges
        self._handled = [0] * len(computes)
        self._due: list[int | None] = [0] * len(computes)
        self._last: Emit | None = None
        self._emits = [self._emit_into(position) for position in range(1, len(computes))]
        self._waiting: deque[tuple[int, Batch, str]] = deque()
        self._opened = 0

    def _emit_into(self, position: int) -> Emit:
        inner = self._edges[position - 1]
        deliver = self._call if position % _DEEPEST else self._wait

        def emit(batch: Batch, edge: str | None = None) -> None:
            if edge is not None and edge != inner:
                raise GraphError(
                    f"compute {self.names[position - 1]!r} emits to an edge {edge!r}, which it does not have",
                    why=f"its only edge is {inner!r}",
                    remedy="emit to an edge that starts at this vertex",
                )
            deliver(position, own(batch), inner)

        return emit

    def _wait(self, position: int, batch: Batch, edge: str) -> None:
        self._waiting.append((position, batch, edge))

    def _settle(self) -> None:
        """Let what waits run on, in the order in which it was emitted."""
        while self._waiting:
            self._call(*self._waiting.popleft())

    def _call(self, position: int, batch: Batch, edge: str) -> None:
        try:
            self.computes[position].process(batch, self._emit_of(position), edge)
        except (Exception, SystemExit) as error:
            note_vertex(error, self.names[position], self._handled[position], self._doing(position))
            raise
        self._handled[position] += n_records(batch)

    def _doing(self, position: int) -> str:
        """What the method that takes a batch is called to users."""
        return "process"

    def _emit_of(self, position: int) -> Emit:
        if position < len(self._emits):
            return self._emits[position]
        if self._last is None:
            raise RuntimeError("a fused compute emits while no batch is handled")
        return self._last

    def open(self, context: TaskContext) -> None:
        """Open all parts, each with its own name."""
        for name, compute in zip(self.names, self.computes, strict=True):
            if has_own(compute, "open"):
                try:
                    compute.open(context if name == context.vertex else attrs.evolve(context, vertex=name))
                except (Exception, SystemExit) as error:
                    note_vertex(error, name, 0, "open")
                    raise
            self._opened += 1

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Run the batch through all parts."""
        self._last = emit
        self._call(0, batch, edge)
        self._settle()

    def watermark(self, value: int, emit: Emit) -> None:
        """Tell every part, first to last."""
        self._last = emit
        for position, compute in enumerate(self.computes):
            compute.watermark(value, self._emit_of(position))
            self._settle()

    def timer(self, now_ns: int, emit: Emit) -> int | None:
        """Call the parts whose timers are due; the earliest next time."""
        self._last = emit
        for position, due in enumerate(self._due):
            if due is not None and now_ns >= due:
                self._due[position] = self.computes[position].timer(now_ns, self._emit_of(position))
                self._settle()
        return min((due for due in self._due if due is not None), default=None)

    def finish(self, emit: Emit) -> Iterable[Batch] | None:
        """Finish first to last: what a part emits at its end still runs through those behind it."""
        self._last = emit
        for position in range(len(self.computes)):
            last = self._finish_part(position)
            if last is not None:
                return self._finish_from(position, iter(last))
        return None

    def _finish_from(self, position: int, last: Iterator[Batch]) -> Iterator[Batch]:
        """The rest, in turns: what they give has run through the parts behind; they have nothing to hand on."""
        while True:
            emit = self._emit_of(position)
            while (batch := self._guarded(position, lambda: next(last, None))) is not None:  # noqa: B023 - called here
                emit(batch)
                self._settle()
                yield []
            self._settle()
            position += 1
            if position == len(self.computes):
                return
            last = iter(self._finish_part(position) or ())

    def _finish_part(self, position: int) -> Iterable[Batch] | None:
        last = self._guarded(position, lambda: self.computes[position].finish(self._emit_of(position)))
        self._settle()
        return last

    def _guarded(self, position: int, function: Callable[[], _T]) -> _T:
        try:
            return function()
        except (Exception, SystemExit) as error:
            note_vertex(error, self.names[position], self._handled[position], "finish")
            raise

    def snapshot(self) -> bytes | None:
        """The states of all parts; None when none has one."""
        states = [compute.snapshot() for compute in self.computes]
        return pickle.dumps(states) if any(state is not None for state in states) else None

    def restore(self, state: bytes) -> None:
        """Give each part its state."""
        for compute, its_state in zip(self.computes, pickle.loads(state), strict=True):
            if its_state is not None:
                compute.restore(its_state)

    def counters(self) -> Mapping[str, float]:
        """Sums of what the parts count themselves."""
        total: dict[str, float] = {}
        for compute in self.computes:
            for name, value in compute.counters().items():
                total[name] = total.get(name, 0) + value
        return total

    def close(self) -> None:
        """Close the parts that were opened, last first; the first error is raised when all are closed."""
        failure: Exception | None = None
        while self._opened:
            self._opened -= 1
            try:
                self.computes[self._opened].close()
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure
