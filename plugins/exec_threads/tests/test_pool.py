"""The pool: bounded threads, results and errors, and an end that does not wait for ever."""

from __future__ import annotations

import threading
import time

import pytest

from twister2_exec_threads.pool import ThreadPool


def until(condition, deadline_s=30.0):
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


@pytest.fixture
def pool():
    pool = ThreadPool(2)
    yield pool
    pool.close()


def test_calls_give_results_and_errors(pool):
    good, bad = pool.submit(divmod, 7, 2), pool.submit(divmod, 7, 0)
    until(lambda: good.done and bad.done)
    assert good.result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        bad.result()


def test_there_are_no_more_threads_than_asked_for(pool):
    names = set()
    gate = threading.Event()

    def work():
        names.add(threading.current_thread().name)
        gate.wait(60.0)

    calls = [pool.submit(work) for _ in range(6)]
    until(lambda: len(names) == 2)
    gate.set()
    until(lambda: all(call.done for call in calls))
    assert len(names) == 2


def test_no_thread_before_it_is_needed():
    def threads():  # others of this process may end meanwhile
        return set(threading.enumerate()) - before

    before = set(threading.enumerate())
    pool = ThreadPool(4)
    assert not threads()
    call = pool.submit(int)
    until(lambda: call.done)
    assert len(threads()) == 1
    pool.close()
    assert not threads()


def test_wait_returns_when_a_call_ends(pool):
    gate = threading.Event()
    call = pool.submit(gate.wait, 60.0)
    begin = time.monotonic()
    pool.wait(0.05)
    assert time.monotonic() - begin >= 0.04
    threading.Timer(0.02, gate.set).start()
    begin = time.monotonic()
    pool.wait(60.0)
    assert time.monotonic() - begin < 30.0
    until(lambda: call.done)


def test_closing_leaves_a_stuck_call_behind(pool):
    gate = threading.Event()
    pool.submit(gate.wait, 60.0)
    begin = time.monotonic()
    pool.close(deadline_s=0.1)
    pool.close()
    assert time.monotonic() - begin < 30.0
    gate.set()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(int)
