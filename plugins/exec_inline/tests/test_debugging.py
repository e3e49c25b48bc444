"""What the inline executor is for: one thread, one order, the debugger works."""

from __future__ import annotations

import subprocess
import sys

from twister2.graph import Graph
from twister2.spec.plugin import NoOptions
from twister2_exec_inline.plugin import InlinePlugin
from twister2_testkit.executor_bench import Bench
from twister2_testkit.world_tasks import Apply, Keep, Numbers


def bench():
    return Bench(lambda context: InlinePlugin().exec_create(config=NoOptions(), context=context), 1)


def run_in_order():
    used, order = bench(), []

    def build():
        graph = Graph("order", without_rules=["fuse"])
        graph.add_source("source", lambda index: Numbers(used.diary, [[index * 10 + k] for k in range(4)]), 3)
        graph.add_compute(
            "apply", lambda index: Apply(used.diary, lambda record: order.append(record) or record, blocking=index == 1)
        )
        graph.add_sink("sink", lambda index: Keep(used.diary))
        graph.connect("source", "apply", "world.direct")
        graph.connect("apply", "sink", "world.direct")
        return graph

    used.outputs(build)
    return order, used.diary.threads


def test_the_order_of_calls_is_the_same_each_time():
    first, threads = run_in_order()
    assert len(set().union(*threads.values())) == 1, "blocking functions run in the one thread too"
    assert all(run_in_order()[0] == first for _ in range(3))


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from test_debugging import bench
from twister2.graph import Graph
from twister2_testkit.world_tasks import Apply, Keep, Numbers
from twister2.spec.executor import ExecutorContext
from twister2_exec_inline.executor import InlineExecutor

used = bench()
def look(record):
    breakpoint()
    return record
def build():
    graph = Graph("debug")
    graph.add_source("source", lambda index: Numbers(used.diary, [[41]]), 1)
    graph.add_compute("apply", lambda index: Apply(used.diary, look))
    graph.add_sink("sink", lambda index: Keep(used.diary))
    graph.connect("source", "apply", "world.direct")
    graph.connect("apply", "sink", "world.direct")
    return graph
execution = InlineExecutor(used.world.context(0, lambda name: used.operators[0])).prepare(used.plan(build))
with used.world.networks[0].step("run") as step:
    execution.start(step)
    print("outputs", dict(execution.run()))
"""


def test_a_breakpoint_in_a_function_stops_there(request):
    folder = str(request.path.parent)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder], input="p record + 1\nc\n", capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert "(Pdb) 42" in run.stdout
    assert "outputs {'sink': [[41]]}" in run.stdout
