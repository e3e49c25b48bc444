"""What all kinds of steps and actions of a set are made with."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twister2.spec.errors import UsageError
from twister2_tset.alike import alike
from twister2_tset.columns import check_columns
from twister2_tset.keys import shown
from twister2_tset.narrow import PassOn
from twister2_tset.nodes import ExchangeNode, MeetingNode, Node, StepNode, schema_behind
from twister2_tset.problems import TWO, check_count, check_function, short
from twister2_tset.reducing import checked
from twister2_tset.where import caller_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from twister2.spec.tasks import Compute
    from twister2_tset.context import TSetContext
    from twister2_tset.meeting import Meeting
    from twister2_tset.nodes import Way
    from twister2_tset.sets import TSet

T = TypeVar("T")

NOTHING: Any = object()
"""Not given: told from None."""

_IN_PLACE = ("net.direct", "net.pipe")
"""Operators that leave each record in the partition it is in."""


class BaseSet(Generic[T]):
    """A node in a context, and the making of further ones."""

    context: TSetContext
    _node: Node

    @abstractmethod
    def _new(self, node: Node) -> TSet[Any]:
        """The set of another node in the same context."""

    def _step(self, step: str, shows: str, make: Callable[[], Compute], *, narrow: bool = True) -> TSet[Any]:
        return self._new(StepNode(step, caller_line(), f"{step}: {shows}", self._node, make, narrow))

    def _exchange(
        self,
        step: str,
        shows: str,
        operator: str,
        options: Mapping[str, Any],
        partitions: int | None = None,
        *,
        others: Sequence[TSet[Any]] = (),
        make: Callable[[], Compute] = PassOn,
        everywhere: bool = False,
    ) -> TSet[Any]:
        if partitions is not None:
            check_count(partitions, step, "partitions")
        if operator in _IN_PLACE:
            everywhere = self._node.replicated
        else:
            self._check_once(step)
        for other in others:
            self._check_other(other, step)
            other._check_once(step)
        line = caller_line()
        nodes = alike((self._node, *(other._node for other in others)), operator, options, line)
        narrow = bool(getattr(make, "narrow", False))
        return self._new(
            ExchangeNode(
                step,
                line,
                f"{step}: {shows}",
                nodes,
                operator,
                options,
                make,
                partitions,
                narrow,
                everywhere,
            )
        )

    def _meeting(self, step: str, shows: str, ways: Sequence[Way], make: Callable[[], Meeting]) -> TSet[Any]:
        return self._new(MeetingNode(step, caller_line(), f"{step}: {shows}", tuple(ways), make))

    def _check_columns(self, step: str, keys: Iterable[Any]) -> None:
        """See that the columns among some keys are there, where it is known before anything runs which there are.

        :raises UsageError: one is not.
        """
        schema = schema_behind(self._node, sure=True)
        if schema is not None:
            check_columns([key for key in keys if isinstance(key, str)], schema.names, step, self._title(step))

    def _check_other(self, other: Any, step: str) -> None:
        if not isinstance(other, BaseSet):
            raise UsageError(
                f"{step}: {short(other)} is no set",
                why="it takes other sets of the same context",
                remedy="make a set of it: context.parallelize(...)",
            )
        if other.context.env is not self.context.env:
            raise UsageError(
                f"{step}: {other!r} belongs to another environment",
                why="sets of one environment lie on the workers of one attempt",
                remedy="make both sets with the environment that is running",
            )

    def _check_once(self, step: str) -> None:
        """See that every record is there once: of a set that is whole on every worker each copy would count.

        :raises UsageError: the set is whole on every worker.
        """
        if self._node.replicated:
            raise UsageError(
                f"{step}: {self._node.title} is whole on every worker",
                why="each worker has a copy of its records, so they would count once per worker",
                remedy="take the set from before replicate(), all_reduce() or all_gather(): a small side of a join goes"
                " to all workers by itself, or with broadcast='right'. Functions get a set that is whole everywhere by"
                " add_input(...); local() of a kept one gives its records once",
                where=step,
            )

    @staticmethod
    def _title(step: str) -> str:
        return f"{step} ({caller_line()})"


def reducer_options(step: str, reducer: Any, initial: Any = NOTHING) -> tuple[str, dict[str, Any]]:
    """What a reduction shows, and the options of its operator."""
    if not isinstance(reducer, str):
        check_function(reducer, step, "reducer", TWO)
    options: dict[str, Any] = {"reducer": checked(reducer, step)}
    if initial is not NOTHING:
        options["initial"] = initial
    return shown(reducer), options
