"""The inline executor against the kit's suite."""

from __future__ import annotations

from twister2.spec.plugin import NoOptions
from twister2_exec_inline.plugin import InlinePlugin
from twister2_testkit.executor import ExecutorCapabilities, ExecutorSuite


class TestInline(ExecutorSuite):
    capabilities = ExecutorCapabilities(
        checkpoints=True, why={"pool": "one thread is its purpose", "streams": "batch graphs only"}
    )

    def make_executor(self, context):
        return InlinePlugin().exec_create(config=NoOptions(), context=context)
