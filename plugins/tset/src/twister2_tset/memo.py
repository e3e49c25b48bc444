"""The graphs of actions, remembered as long as their sets live: an action in a loop is prepared once."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from twister2_tset.nodes import Node, SourceNode, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twister2.graph import Graph

_FORMS = 8
"""Actions that are remembered for one set: those used last."""

Made = tuple["Graph", list[str]]
"""A graph, and the names of its sinks."""


class Memo:
    """Graphs by set and form of action."""

    def __init__(self) -> None:
        self._made: weakref.WeakKeyDictionary[Node, OrderedDict[Hashable, Made]] = weakref.WeakKeyDictionary()

    def get(self, node: Node, form: tuple[Any, ...], make: Callable[[], Made]) -> Made:
        """The graph of a form of action on a node; ``make`` gives one that is not known.

        Graphs that look at the outside when they are planned (files) are made anew each time.
        """
        if not _repeats(node, form):
            return make()
        forms = self._made.setdefault(node, OrderedDict())
        made = forms.get(form)
        if made is None:
            made = forms[form] = make()
            while len(forms) > _FORMS:
                forms.popitem(last=False)
        else:
            forms.move_to_end(form)
        return made


def _repeats(node: Node, form: tuple[Any, ...]) -> bool:
    try:
        hash(form)
    except TypeError:
        return False
    return not any(isinstance(step, SourceNode) and step.planner is not None for step in in_order(node))


class Identity:
    """A value that equals itself only."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)
