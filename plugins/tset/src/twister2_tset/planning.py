"""Plans of actions: what an action would run, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from twister2.spec.errors import UsageError
from twister2_tset.context import TSetContext
from twister2_tset.problems import short
from twister2_tset.sets import TSet
from twister2_tset.stored_sets import check_all_kept, keeping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twister2_tset.nodes import Leaf, Node, StoredNode


class Planned(Exception):
    """Ends an action where it would run; with the text of its plan."""


class Looking(TSetContext):
    """Another context's double, in which whatever would run is planned instead."""

    def __init__(self, context: TSetContext) -> None:
        self.__dict__.update(context.__dict__)

    def run_leaf(self, node: Node, form: tuple[Any, ...], leaf: Callable[[], Leaf]) -> NoReturn:
        """See :class:`~twister2_tset.TSetContext`."""
        raise Planned(self.explain(leaf()))

    def run_once(self, leaf: Leaf) -> NoReturn:
        """See :class:`~twister2_tset.TSetContext`."""
        raise Planned(self.explain(leaf))

    def fill(self, node: StoredNode) -> NoReturn:
        """See :class:`~twister2_tset.TSetContext`."""
        check_all_kept(node.of)
        raise Planned(keeping(self, node.of, node.stored, through=True).explain(self.env))

    def fill_all(self, node: Node) -> None:
        """Nothing."""


def plan_of(records: TSet[Any], action: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> str:
    """The plan of an action on a set.

    :raises UsageError: it is none.
    """
    method = None if action.startswith("_") else getattr(TSet(Looking(records.context), records._node), action, None)
    try:
        if callable(method):
            method(*arguments, **options)
    except Planned as planned:
        return str(planned)
    raise UsageError(
        f"explain: {short(action)} runs nothing",
        why="the plan is asked for of an action, by its name and with its arguments",
        remedy='give e.g. explain("sum", "column") or explain("cache"); the plan of a step is that of the set it gives',
        where="explain",
    )
