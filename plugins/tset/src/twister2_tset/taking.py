"""Reading only as far as wanted: sources that stop once the step behind them has enough."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.tasks import END, EndOfData, Source, TaskContext
from twister2.spec.values import Value
from twister2_tset.forms import RECORDS
from twister2_tset.nodes import Node, SourceNode, StepNode

if TYPE_CHECKING:
    from twister2.spec.batch import Batch
    from twister2.spec.declarations import Declarations


class Stops:
    """The partitions on this worker of which enough was read."""

    def __init__(self) -> None:
        self.indices: set[int] = set()


class StoppableSource(Source):
    """A source that ends early when its partition is among the stops."""

    def __init__(self, source: Source, index: int, stops: Stops) -> None:
        self._source = source
        self._index = index
        self._stops = stops.indices

    def open(self, context: TaskContext) -> None:
        """Open it."""
        self._stops.discard(self._index)
        self._source.open(context)

    def poll(self) -> Batch | EndOfData | None:
        """Its next batch."""
        return END if self._index in self._stops else self._source.poll()

    def wait_fd(self) -> int | None:
        """Its file descriptor."""
        return self._source.wait_fd()

    def counters(self) -> Mapping[str, float]:
        """Its counters."""
        return self._source.counters()

    def close(self) -> None:
        """Close it."""
        self._source.close()


@attrs.frozen(eq=False, repr=False)
class _Stoppable(Value):
    make: Callable[..., Source]
    stops: Stops = attrs.field(repr=False)

    @property
    def gives(self) -> str:
        """The form of its batches."""
        form: str = getattr(self.make, "gives", RECORDS)
        return form

    @property
    def declares(self) -> Declarations | None:
        """What the source does. It gives fewer records than another that reads the same; what reads less stops, too."""
        said: Declarations | None = getattr(self.make, "declares", None)
        if said is None:
            return None
        less: dict[str, Any] = {
            name: functools.partial(self._less, way)
            for name in ("with_columns", "with_predicate")
            if (way := getattr(said, name)) is not None
        }
        return attrs.evolve(said, identity=None, **less)

    def _less(self, way: Callable[[Any], Any], wanted: Any) -> _Stoppable | None:
        made = way(wanted)
        return None if made is None else _Stoppable(made, self.stops)

    def __call__(self, index: int, *planned: Any) -> Source:
        return StoppableSource(self.make(index, *planned), index, self.stops)


def stoppable(node: Node, stops: Stops) -> Node:
    """The node, behind a source that stops; as it is, where more than steps within partitions lie between."""
    if isinstance(node, SourceNode):
        return attrs.evolve(node, make=_Stoppable(node.make, stops))
    if isinstance(node, StepNode) and node.narrow:
        return attrs.evolve(node, parent=stoppable(node.parent, stops))
    return node
