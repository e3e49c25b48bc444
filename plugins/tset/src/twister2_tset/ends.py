"""Ends of sets that are made now and run later: sinks, functions for every record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twister2_tset.context import TSetContext
    from twister2_tset.nodes import Leaf


class LazyEnd:
    """What a lazy action waits for: ``run()``, or ``context.run(...)`` for several in one graph.

    It can be run again; its graph is prepared once.
    """

    def __init__(self, context: TSetContext, leaf: Leaf) -> None:
        self.context = context
        self.leaf = leaf
        self.token = object()
        """Stands for this end without keeping its set alive."""

    def __repr__(self) -> str:
        return f"<LazyEnd {self.leaf.title}>"

    def explain(self) -> str:
        """The plan of what it would run, as that of a set."""
        return self.context.explain(self.leaf)

    def run(self) -> list[Any]:
        """Run it. Collective.

        :returns: what the sink's tasks on this worker kept (``Sink.output``), in order of partitions.
        """
        return self.context.run(self)[0]
