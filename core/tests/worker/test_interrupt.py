"""KeyboardInterrupt in a program that runs in a thread: once, never in our own code, and nothing of it stays."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.worker.interrupt import ThreadInterrupt

pytestmark = pytest.mark.timeout(30)


class Program:
    """A function in a thread, inside of a :class:`ThreadInterrupt`; what it raised, and what came after it."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.link = SimpleNamespace(told=False)
        self.interrupt = ThreadInterrupt(self.link)  # type: ignore[arg-type]
        self.up = threading.Event()
        self.raised: BaseException | None = None
        self.afterwards = 0
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.up.wait(10)

    def _run(self) -> None:
        try:
            with self.interrupt:
                self.up.set()
                self._function()
        except BaseException as error:
            self.raised = error
        for _ in range(100_000):
            self.afterwards += 1

    def end(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert self.afterwards == 100_000


def loop_for_ever() -> None:
    while True:
        pass


def sleep_for_ever() -> None:
    while True:
        time.sleep(0.01)


@pytest.mark.parametrize("function", [loop_for_ever, sleep_for_ever])
def test_a_program_in_no_call_of_ours(function: Callable[[], object]) -> None:
    program = Program(function)
    program.interrupt.send()
    program.end()
    assert isinstance(program.raised, KeyboardInterrupt)
    assert program.link.told


def test_only_once() -> None:
    count = 0

    sent = threading.Event()

    def swallows() -> None:
        nonlocal count
        until = time.monotonic() + 15
        while time.monotonic() < until:
            try:
                while time.monotonic() < until:
                    if count and sent.is_set():
                        until = min(until, time.monotonic() + 0.3)  # for one more, which must not come
            except KeyboardInterrupt:
                count += 1

    program = Program(swallows)
    for _ in range(3):
        program.interrupt.send()
    sent.set()
    program.end()
    assert (count, program.raised) == (1, None)


def test_not_when_a_call_has_told_it() -> None:
    go = threading.Event()
    program = Program(lambda: go.wait(10))
    program.link.told = True
    program.interrupt.send()
    go.set()
    program.end()
    assert program.raised is None


def test_not_after_its_end() -> None:
    go = threading.Event()
    program = Program(lambda: go.wait(10))
    go.set()
    program.end()
    program.interrupt.send()
    assert (program.raised, program.link.told) == (None, False)


def test_never_in_code_of_ours_nor_in_what_that_calls() -> None:
    """Code of the package ``twister2`` that waits in Python's own ``threading`` is left alone until it is back."""
    ours: dict[str, Any] = {"__name__": "twister2.worker.pretended", "json": json}
    exec("def wait(ready):\n    ready.wait(10)\n    return json.dumps([1])", ours)
    go, said = threading.Event(), []

    def main() -> None:
        said.append(ours["wait"](go))
        while True:
            pass

    program = Program(main)
    program.interrupt.send()
    time.sleep(0.3)
    assert not program.link.told
    go.set()
    program.end()
    assert said == ["[1]"]
    assert isinstance(program.raised, KeyboardInterrupt)


def test_never_in_a_library_that_code_of_ours_calls() -> None:
    library: dict[str, Any] = {"__name__": "zmq.sugar.pretended"}
    exec("def wait(ready):\n    ready.wait(10)\n    return 1", library)
    ours: dict[str, Any] = {"__name__": "twister2.worker.pretended", "wait": library["wait"]}
    exec("def call(ready):\n    return wait(ready)", ours)
    go, said = threading.Event(), []

    def main() -> None:
        said.append(ours["call"](go))
        loop_for_ever()

    program = Program(main)
    program.interrupt.send()
    time.sleep(0.3)
    assert not program.link.told
    go.set()
    program.end()
    assert said == [1]
    assert isinstance(program.raised, KeyboardInterrupt)


def test_in_a_library_that_the_program_calls() -> None:
    library: dict[str, Any] = {"__name__": "zmq.sugar.pretended"}
    exec("def work():\n    while True:\n        pass", library)
    program = Program(lambda: library["work"]())
    program.interrupt.send()
    program.end()
    assert isinstance(program.raised, KeyboardInterrupt)


def test_a_program_that_is_about_to_begin_hears_of_it_then() -> None:
    link = SimpleNamespace(told=False)
    interrupt = ThreadInterrupt(link)  # type: ignore[arg-type]
    interrupt.send()
    time.sleep(0.1)
    assert not link.told
    with pytest.raises(KeyboardInterrupt), interrupt:
        loop_for_ever()


def test_one_that_never_begins_leaves_no_thread() -> None:
    interrupt = ThreadInterrupt(SimpleNamespace(told=False))  # type: ignore[arg-type]
    before = threading.active_count()
    interrupt.send(after_s=60)
    interrupt.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
