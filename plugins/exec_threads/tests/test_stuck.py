"""Cancelling while a function blocks: bounded, and the task is not touched by two threads."""

from __future__ import annotations

import threading
import time

from twister2.graph import Graph
from twister2.spec.errors import UserCodeError
from twister2_exec_threads.config import ThreadsConfig
from twister2_exec_threads.plugin import ThreadsPlugin
from twister2_testkit.executor_bench import Bench
from twister2_testkit.world_tasks import Apply, Keep, Numbers


def bench():
    return Bench(lambda context: ThreadsPlugin().exec_create(config=ThreadsConfig(), context=context), 1)


def graph_of(used, function, parallelism=1):
    def build():
        graph = Graph("blocking", without_rules=["fuse"])
        graph.add_source("source", lambda index: Numbers(used.diary, [[1], [2], [3]]), parallelism)
        graph.add_compute("apply", lambda index: Apply(used.diary, function), options={"blocking": True})
        graph.add_sink("sink", lambda index: Keep(used.diary))
        graph.connect("source", "apply", "world.direct")
        graph.connect("apply", "sink", "world.direct")
        return graph

    return build


def test_an_option_of_the_vertex_marks_its_functions_too():
    used = bench()
    assert used.outputs(graph_of(used, lambda record: threading.current_thread().name)) == [["twister2-task-0"] * 3]


def test_an_error_in_the_pool_names_the_record():
    used = bench()
    (end,) = used.ends(graph_of(used, lambda record: 1 // (record - 3)))
    assert isinstance(end, UserCodeError)
    assert end.details["record"] == 3
    assert end.details["vertex"] == "apply"
    assert used.diary.of("apply", "close") == {0: 1}


def start_until(execution, step, entered):
    execution.start(step)
    while not entered.is_set():
        execution.step(0.001)


def test_cancel_waits_for_a_call_under_way():
    used = bench()
    entered = threading.Event()

    def slow(record):
        entered.set()
        time.sleep(0.1)
        return record

    def use(execution, worker_id, network):
        with network.step("run") as step:
            start_until(execution, step, entered)
            execution.cancel()

    used.work(graph_of(used, slow), use)
    assert used.diary.overlaps == [], "closed while it was in a call"
    assert used.diary.of("apply", "close") == {0: 1}


def test_cancel_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr("twister2.graph.runtime.execution._CLOSING_DEADLINE_S", 0.1)
    used = bench()
    entered, gate = threading.Event(), threading.Event()

    def stuck(record):
        entered.set()
        gate.wait(60.0)
        return record

    def use(execution, worker_id, network):
        with network.step("run") as step:
            start_until(execution, step, entered)
            begin = time.monotonic()
            execution.cancel()
            return time.monotonic() - begin

    try:
        (spent,) = used.work(graph_of(used, stuck, 3), use)
    finally:
        gate.set()
    assert spent < 30.0
    assert 0 not in used.diary.of("apply", "close"), "a task in a call is not closed"
    assert used.diary.of("sink", "close") == {0: 1, 1: 1, 2: 1}
