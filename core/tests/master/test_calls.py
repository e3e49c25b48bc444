"""Calls that may take long, in a thread of their own."""

from __future__ import annotations

import os
import resource
import threading
import time

import pytest

from twister2.master.calls import CallThread
from twister2.spec.errors import DeadlineError


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
