"""Sets that are kept: in memory or on disk, on the workers that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twister2.graph import Graph, Stored
from twister2.spec.errors import UsageError
from twister2_tset.nodes import Node, StoredNode, add_steps, in_order
from twister2_tset.sets import TSet
from twister2_tset.where import caller_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2_tset.context import TSetContext

T = TypeVar("T")


class StoredSet(TSet[T], Generic[T]):
    """A set whose records stay where they are once they were made: the result of ``cache`` and ``persist``.

    A lazy one is filled when it is first needed. Afterwards it is what it was then, until an evaluation updates it.
    """

    def __init__(self, context: TSetContext, node: StoredNode) -> None:
        super().__init__(context, node)
        self.node = node

    @property
    def is_filled(self) -> bool:
        """Whether its records are there."""
        return self.node.stored.filled

    def local(self) -> Iterator[T]:
        """The records on this worker, in order of partitions. Not collective.

        :raises UsageError: it was not filled yet, or was dropped, or the program that made it has ended.
        """
        self.context.check_open("local")
        check_kept(self.node)
        if not self.is_filled:
            raise UsageError(
                f"{self.node.stored.name}: its records were not made yet",
                why="a lazy set is filled when an action first needs it, and local() is none",
                remedy="run an action on it before, or use cache() or persist()",
                where=caller_line(),
            )
        return self.node.stored.records()

    def drop(self) -> None:
        """Forget the records, and give back what they took. The set cannot be used any more; idempotent."""
        self.node.stored.close()


def check_kept(node: StoredNode) -> None:
    """:raises UsageError: the stored set was dropped."""
    if node.stored.closed:
        raise UsageError(
            f"{node.stored.name}: the set was dropped",
            why="drop() gave back what its records took, and the set cannot be used any more",
            remedy="drop it behind its last use, or keep the records again: cache() or persist()",
            where=caller_line(),
        )


def check_all_kept(node: Node) -> None:
    """See that no stored set that a node is made of was dropped, as :func:`check_kept`."""
    for step in in_order(node, through=True):
        for stored in (step, *step.given.values()):
            if isinstance(stored, StoredNode):
                check_kept(stored)


def keeping(context: TSetContext, node: Node, stored: Stored, *, through: bool = False) -> Graph:
    """The graph that makes a node's records and keeps them in ``stored``. ``through`` as in :func:`add_steps`."""
    graph: Any = Graph(context.name, without_rules=context.without_rules, scheduler=context.scheduler)
    graph.keep(add_steps(graph, node, context.env.n_workers, through=through), into=stored)
    return graph  # type: ignore[no-any-return]
