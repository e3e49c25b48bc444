"""Calls that may take long, in a thread of their own; and how often a resource manager is asked."""

from __future__ import annotations

import os
import resource
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.master.calls import CallThread
from twister2.master.process import STATE_EVERY_S, MasterProcess
from twister2.spec.errors import DeadlineError
from twister2.spec.rm import JobState


def test_a_call_is_finished_with_its_error_or_without() -> None:
    calls, ran = CallThread("the test"), []
    assert calls.finish(lambda: ran.append(1), 10.0) is None
    error = calls.finish(lambda: 1 / 0, 10.0)
    assert error is not None
    assert "the test raised ZeroDivisionError" in error.what
    assert ran == [1]
    assert calls.close() is True


def test_what_hangs_keeps_what_it_uses_and_what_waits_behind_it_is_never_run() -> None:
    calls, go, ran = CallThread("the test"), threading.Event(), []
    assert isinstance(calls.finish(lambda: go.wait(20) and ran.append("first"), 0.2), DeadlineError)
    assert isinstance(calls.finish(lambda: ran.append("second"), 0.2), DeadlineError)
    assert calls.close(0.2) is False
    go.set()
    deadline = time.monotonic() + 10
    while not calls.close(0.1):
        assert time.monotonic() < deadline
    assert ran == ["first"]


def test_something_else_is_done_while_it_waits() -> None:
    done = threading.Event()
    calls = CallThread("the test", done.set)
    assert calls.finish(lambda: done.wait(20) or 1 / 0, 25.0) is None
    assert calls.close() is True


def test_a_call_is_finished_where_many_files_are_open() -> None:
    """A master in a thread shares the descriptors of a notebook."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip(f"the system allows {hard} open files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
    try:
        calls = CallThread("the test")
        assert calls.finish(lambda: None, 10.0) is None
        assert calls.close() is True
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("state", "same_host", "heard", "gone", "grows", "every_s"),
    [
        (JobState.RUNNING, False, 100.0, False, False, 15.0),
        (JobState.RUNNING, True, 100.0, False, False, STATE_EVERY_S),
        (JobState.QUEUED, False, 100.0, False, False, STATE_EVERY_S),
        (JobState.RESTARTING, False, 100.0, False, False, STATE_EVERY_S),
        (JobState.RUNNING, False, 98.0, False, False, STATE_EVERY_S),
        (JobState.RUNNING, False, 10.0, True, False, 15.0),
        (JobState.RUNNING, False, 100.0, False, True, STATE_EVERY_S),
    ],
)
def test_a_manager_elsewhere_is_asked_seldom_while_all_workers_beat(
    state: JobState, same_host: bool, heard: float, gone: bool, grows: bool, every_s: float
) -> None:
    master: Any = SimpleNamespace(
        _backend=SimpleNamespace(offers=SimpleNamespace(same_host=same_host)),
        _config=SimpleNamespace(heartbeat_s=1.0, manager_poll_s=15.0),
        job=SimpleNamespace(
            state=state,
            slots=[SimpleNamespace(heard=heard, gone=gone)],
            scaling=SimpleNamespace(pending={2: None} if grows else {}),
        ),
    )
    assert MasterProcess._state_every_s(master, 100.0) == every_s
