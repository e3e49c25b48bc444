"""The threads executor against the kit's suite."""

from __future__ import annotations

from twister2_exec_threads.config import ThreadsConfig
from twister2_exec_threads.plugin import ThreadsPlugin
from twister2_testkit.executor import ExecutorCapabilities, ExecutorSuite


class TestThreads(ExecutorSuite):
    capabilities = ExecutorCapabilities(pool=True, checkpoints=True, why={"streams": "batch graphs only"})

    def make_executor(self, context):
        return ThreadsPlugin().exec_create(config=ThreadsConfig(), context=context)


class TestThreadsWithOneItemPerTurn(TestThreads):
    def make_executor(self, context):
        return ThreadsPlugin().exec_create(config=ThreadsConfig(quantum=1), context=context)
