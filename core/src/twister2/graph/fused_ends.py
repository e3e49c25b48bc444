"""Chains that begin with a source or end in a sink, as one task. In batch graphs only."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from time import time_ns
from typing import Any

import attrs

from twister2.graph.fused import FusedCompute, FusedFactory
from twister2.graph.records import note_vertex
from twister2.spec.batch import Batch, n_records, own
from twister2.spec.errors import GraphError
from twister2.spec.tasks import END, Compute, Emit, EndOfData, Sink, Source, Task, TaskContext, has_own
from twister2.spec.values import Value

PIECE = 8 << 10
"""Characters of a piece: what is made of them stays in the first of the processor's caches until it is combined."""


class Batches(tuple[tuple[Batch, str | None], ...]):
    """What one poll of a fused source gave: batches in order, each with the edge it goes to (None: to all)."""

    __slots__ = ()


@attrs.frozen(eq=False, repr=False)
class FusedSourceFactory(Value):
    """``make(index)`` of a fused source.

    :ivar edge: from the source to the first compute. :ivar chain: the computes.
    :ivar options: of the computes; those of the vertex are the source's.
    :ivar in_pieces: all computes handle records by themselves, and what comes out is combined at once: batches that can
        be cut run through in pieces.
    """

    name: str
    make: Callable[[int], Task]
    edge: str
    chain: FusedFactory
    options: Mapping[str, Any]
    in_pieces: bool = False

    def __call__(self, index: int) -> FusedSource:
        source = self.make(index)
        if not isinstance(source, Source):
            raise GraphError(
                f"the factory of source {self.name!r} gave {type(source).__name__}",
                why="a source vertex is made of twister2.spec.tasks.Source objects",
                remedy="let make(index) return a Source",
            )
        return FusedSource(self.name, source, self.edge, self.chain(index), self.options, in_pieces=self.in_pieces)


class FusedSource(Source):
    """Runs what a source gives through computes before anybody else sees it."""

    def __init__(
        self,
        name: str,
        source: Source,
        edge: str,
        chain: FusedCompute,
        options: Mapping[str, Any] | None = None,
        *,
        in_pieces: bool = False,
    ) -> None:
        self.source, self.chain = source, chain
        self._in_pieces = in_pieces
        self.reads_elsewhere = any(getattr(source, name, False) for name in ("blocking", "releases_gil"))
        """Whether the source itself belongs into the pool, and not just the computes."""
        self.blocking = chain.blocking or self.reads_elsewhere
        self.releases_gil = chain.releases_gil
        self._name, self._edge, self._options = name, edge, options or {}
        self._given = 0
        self._stopped = self._opened = False
        self._last: Iterator[Batch] | None = None
        self._out: list[tuple[Batch, str | None]] = []
        self._due: int | None = 0 if chain.has_timer else None

    def open(self, context: TaskContext) -> None:
        """Open source and computes, each with its own name."""
        if has_own(self.source, "open"):
            try:
                self.source.open(attrs.evolve(context, vertex=self._name))
            except (Exception, SystemExit) as error:
                note_vertex(error, self._name, 0, "open")
                raise
        self._opened = True
        self.chain.open(attrs.evolve(context, options=self._options))

    def poll(self) -> Batch | EndOfData | None:
        """The next batch of the source, run through the computes; then what these give at their end."""
        return self.run(self.read())

    def read(self) -> Batch | EndOfData | None:
        """The first half of :meth:`poll`: what the source gives."""
        if self._stopped or self._last is not None:
            return END
        try:
            batch = self.source.poll()
        except (Exception, SystemExit) as error:
            note_vertex(error, self._name, self._given, "poll")
            raise
        if batch is not None and batch is not END:
            self._given += n_records(batch)
        return batch

    def pieces(self, batch: Batch | EndOfData | None) -> Iterator[Batch | EndOfData | None]:
        """What :meth:`read` gave as :meth:`run` is to get it, one call after the other."""
        lazy = self._in_pieces and hasattr(type(batch), "__t2_records__")
        cut = getattr(batch, "pieces", None) if lazy else None
        if cut is None:
            yield batch
            return
        try:
            yield from cut(PIECE)
        except (Exception, SystemExit) as error:
            note_vertex(error, self._name, self._given, "pieces")
            raise

    def run(self, batch: Batch | EndOfData | None) -> Batch | EndOfData | None:
        """The second half: what comes out of the computes. It may be called by another thread than the first."""
        if self._last is not None:
            return self._more(self._last)
        if batch is END:
            self._last = iter(self.chain.finish(self._emit) or ())
            return self._taken() or self._more(self._last)
        if self._due is not None and time_ns() >= self._due:
            self._due = self.chain.timer(time_ns(), self._emit)
        if batch is None:
            return self._taken() or None
        self.chain.process(own(batch), self._emit, self._edge)
        return self._taken()

    def stop(self) -> None:
        """Read no more; what the computes give at their end still comes."""
        self._stopped = True

    def _more(self, last: Iterator[Batch]) -> Batch | EndOfData:
        batch = next(last, END)
        if batch is END:
            return self._taken() or END  # the last call, too, may have emitted something
        if n_records(batch):
            self._out.append((own(batch), None))
        return self._taken()

    def _emit(self, batch: Batch, edge: str | None = None) -> None:
        self._out.append((own(batch), edge))

    def _taken(self) -> Batches:
        out, self._out = self._out, []
        return Batches(out)

    def wait_fd(self) -> int | None:
        """The source's."""
        return self.source.wait_fd()

    def snapshot(self) -> bytes | None:
        """The states of source and computes; None when none has one."""
        states = (self.source.snapshot(), self.chain.snapshot())
        return pickle.dumps(states) if any(state is not None for state in states) else None

    def restore(self, state: bytes) -> None:
        """Give each its state."""
        for task, its_state in zip((self.source, self.chain), pickle.loads(state), strict=True):
            if its_state is not None:
                task.restore(its_state)

    def counters(self) -> Mapping[str, float]:
        """Sums of what the parts count themselves."""
        total = dict(self.source.counters())
        for name, value in self.chain.counters().items():
            total[name] = total.get(name, 0) + value
        return total

    def close(self) -> None:
        """Close all that was opened, the source last."""
        try:
            self.chain.close()
        finally:
            if self._opened:
                self._opened = False
                self.source.close()


@attrs.frozen(eq=False, repr=False)
class FusedSinkFactory(Value):
    """``make(index)`` of a fused sink: computes, and the sink behind them.

    :ivar names: of the computes and the sink. :ivar edges: between them, one less. :ivar makes: as many as names.
    """

    names: tuple[str, ...]
    edges: tuple[str, ...]
    makes: tuple[Callable[[int], Task], ...]

    def __call__(self, index: int) -> FusedSink:
        sink = self.makes[-1](index)
        if not isinstance(sink, Sink):
            raise GraphError(
                f"the factory of sink {self.names[-1]!r} gave {type(sink).__name__}",
                why="a sink vertex is made of twister2.spec.tasks.Sink objects",
                remedy="let make(index) return a Sink",
            )
        chain = FusedFactory(self.names[:-1], self.edges[:-1], self.makes[:-1])(index)
        return FusedSink(self.names, self.edges, [*chain.computes, _Writing(sink)], sink)


class _Writing(Compute):
    """A sink at the end of a chain."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.blocking = getattr(sink, "blocking", False)
        self.releases_gil = getattr(sink, "releases_gil", False)
        self.open, self.close = sink.open, sink.close  # type: ignore[method-assign]
        self.snapshot, self.restore = sink.snapshot, sink.restore  # type: ignore[method-assign]
        self.counters = sink.counters  # type: ignore[method-assign]

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        if n_records(batch):
            self._sink.write(batch, edge)


class FusedSink(FusedCompute, Sink):
    """Computes, one inside another, and a sink that gets what comes out; for the system it is a sink."""

    def __init__(self, names: tuple[str, ...], edges: tuple[str, ...], computes: list[Compute], sink: Sink) -> None:
        super().__init__(names, edges, computes)
        self._sink = sink

    def write(self, batch: Batch, edge: str) -> None:
        """Run the batch through all parts."""
        self.process(batch, _nowhere, edge)

    def _doing(self, position: int) -> str:
        return "write" if position == len(self.computes) - 1 else super()._doing(position)

    def prepare(self, checkpoint: int) -> list[Any]:
        """The sink's."""
        return self._sink.prepare(checkpoint)

    def commit(self, committables: list[Any]) -> None:
        """The sink's."""
        self._sink.commit(committables)

    def abort(self) -> None:
        """The sink's."""
        self._sink.abort()

    def output(self) -> Any:
        """The sink's."""
        return self._sink.output()


def _nowhere(batch: Batch, edge: str | None = None) -> None:
    raise GraphError(
        "something is emitted behind a sink",
        why="nothing leaves a sink",
        remedy="tell the authors of this software",
    )
