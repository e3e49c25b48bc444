"""Entry point of the plugin; the executor is imported when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.executor import ExecSpec
from twister2.spec.plugin import hookimpl

from .config import ThreadsConfig

if TYPE_CHECKING:
    from twister2.spec.executor import Executor, ExecutorContext


class ThreadsPlugin(ExecSpec):
    """The calling thread, and a pool for functions that block or release the GIL."""

    api = (1, 0)
    config_class = ThreadsConfig
    modes: ClassVar[frozenset[str]] = frozenset({"batch"})

    @hookimpl
    def exec_create(self, config: Any, context: ExecutorContext) -> Executor:
        """Make the executor; threads start with the first call that needs one."""
        from .executor import ThreadsExecutor

        return ThreadsExecutor(config, context)
