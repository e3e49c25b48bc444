"""The executor: the shared execution without a pool, one item per turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.graph.runtime import PlanExecution, check_mode
from twister2.spec.executor import Execution, Executor, ExecutorContext

if TYPE_CHECKING:
    from twister2.spec.plan import Plan

MODES = frozenset({"batch"})


class InlineExecutor(Executor):
    """Runs plans in the calling thread."""

    def __init__(self, context: ExecutorContext) -> None:
        self._context = context

    def prepare(self, plan: Plan) -> Execution:
        """Make ready to run ``plan``.

        :raises GraphError: it is a stream.
        """
        check_mode(plan, MODES, "inline")
        return PlanExecution(plan, self._context, quantum=1)

    def close(self) -> None:
        """There is nothing to release."""
