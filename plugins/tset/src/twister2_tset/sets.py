"""The set: typed, lazy, immutable. Steps give a new set; actions run one task graph and are collective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twister2.spec.errors import UsageError
from twister2_tset.actions import Actions
from twister2_tset.ending import Endings
from twister2_tset.keyed_steps import KeyedSteps
from twister2_tset.narrow_steps import NarrowSteps
from twister2_tset.set_steps import SetSteps

if TYPE_CHECKING:
    from twister2_tset.context import TSetContext
    from twister2_tset.nodes import Node

T = TypeVar("T")


class TSet(NarrowSteps[T], KeyedSteps[T], SetSteps[T], Actions[T], Endings[T]):
    """Records of type ``T``, spread over the workers in partitions.

    Made by a :class:`~twister2_tset.TSetContext` and by steps of other sets. Nothing runs before an action. Actions
    are collective: every worker calls them in the same order and gets the same value (``count``, ``reduce``, ``top``,
    ``collect``, ``gather``) or nothing (``for_each``, ``write_*``); ``cache`` gives a set.

    Records are shared, not copied, between steps, actions and kept sets: functions and reducers give new ones, and
    leave those that they are given as they are.
    """

    def __init__(self, context: TSetContext, node: Node) -> None:
        self.context = context
        self._node = node

    def __repr__(self) -> str:
        return f"<TSet {self._node.title}: {self._node.shows}>"

    def __iter__(self) -> Any:
        raise UsageError(
            "a TSet cannot be walked over",
            why="its records lie on several workers",
            remedy="use collect() for a small set, for_each(function), or map(function)",
        )

    def _new(self, node: Node) -> TSet[Any]:
        return TSet(self.context, node)
