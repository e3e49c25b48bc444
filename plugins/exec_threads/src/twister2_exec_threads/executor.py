"""The executor: the shared execution with a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.graph.runtime import PlanExecution, check_mode
from twister2.spec.executor import Execution, Executor, ExecutorContext

from .pool import ThreadPool

if TYPE_CHECKING:
    from twister2.spec.plan import Plan

    from .config import ThreadsConfig

MODES = frozenset({"batch"})


class ThreadsExecutor(Executor):
    """Runs plans in the calling thread and in a pool."""

    def __init__(self, config: ThreadsConfig, context: ExecutorContext) -> None:
        self._config = config
        self._context = context
        self._pool = ThreadPool(context.threads)

    def prepare(self, plan: Plan) -> Execution:
        """Make ready to run ``plan``.

        :raises GraphError: it is a stream.
        """
        check_mode(plan, MODES, "threads")
        return PlanExecution(plan, self._context, pool=self._pool, quantum=self._config.quantum)

    def close(self) -> None:
        """End the threads; one that is stuck in a call is left behind as a daemon."""
        self._pool.close()
