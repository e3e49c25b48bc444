"""Entry point of the plugin; the executor is imported when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.executor import ExecSpec
from twister2.spec.plugin import hookimpl

if TYPE_CHECKING:
    from twister2.spec.executor import Executor, ExecutorContext


class InlinePlugin(ExecSpec):
    """Everything in the calling thread, in a fixed order."""

    api = (1, 0)
    modes: ClassVar[frozenset[str]] = frozenset({"batch"})

    @hookimpl
    def exec_create(self, config: Any, context: ExecutorContext) -> Executor:
        """Make the executor."""
        from .executor import InlineExecutor

        return InlineExecutor(context)
