"""KeyboardInterrupt in a program: once, never in our own code, and nothing of it stays."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.worker.environment import Environment
from twister2.worker.interrupt import ThreadInterrupt, interruptible
from twister2.worker.logs import LinkHandler


class Program:
    """A function in a thread, inside of a :class:`ThreadInterrupt`; what it raised, and what came after it."""

    def __init__(self, function: Callable[[], object], link: Any = None) -> None:
        self.link = link or SimpleNamespace(told=False)
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

    inside, sent = threading.Event(), threading.Event()

    until = time.monotonic() + 15

    def spins() -> None:
        nonlocal until
        inside.set()
        while time.monotonic() < until:
            if count and sent.is_set():
                until = min(until, time.monotonic() + 0.3)  # for one more, which must not come

    def swallows() -> None:
        nonlocal count
        while time.monotonic() < until:
            try:
                spins()  # of its own: newer versions of Python leave jumps of a loop out of the try that is around it
            except KeyboardInterrupt:
                count += 1

    program = Program(swallows)
    assert inside.wait(15)
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


class Line:
    """A link on which every message is interrupted in the middle."""

    def __init__(self) -> None:
        self.aborted, self.told = True, False
        self.overdue: Callable[[], None] | None = None
        self.said: list[str] = []
        code: dict[str, Any] = {"__name__": "twister2.worker.pretended"}
        exec("def post(said, ring, body):\n    ring()\n    said.append(body['text'])", code)
        self._post = code["post"]
        self.ring: Callable[[], object] = partial(signal.raise_signal, signal.SIGINT)

    def post(self, kind: str, body: dict[str, Any]) -> None:
        self._post(self.said, self.ring, body)

    def heed(self) -> None:
        if self.overdue is not None:
            self.overdue()

    def logger(self) -> logging.Logger:
        logger = logging.Logger("test")
        logger.addHandler(LinkHandler(self))  # type: ignore[arg-type]
        return logger


def under_interrupts(line: Line, program: Callable[[], object]) -> None:
    """Run a program that ends by an interrupt."""
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible(line):  # type: ignore[arg-type]
            program()
    finally:
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):  # would signal once more
                thread.cancel()
                thread.join()
        signal.signal(signal.SIGINT, before)


def test_a_program_that_does_nothing_but_log_hears_of_it_behind_a_whole_message() -> None:
    line = Line()

    def program() -> None:
        for word in ("one", "two"):
            line.logger().info(word)

    under_interrupts(line, program)
    assert line.said == ["one"]
    assert line.told


def test_what_code_of_ours_logs_does_not_cut_it() -> None:
    line = Line()
    code: dict[str, Any] = {"__name__": "twister2.worker.pretended"}
    exec("def close(log):\n    log.warning('one cannot be closed')\n    log.warning('nor the other')", code)

    def program() -> None:
        code["close"](line.logger())
        line.logger().info("main")

    under_interrupts(line, program)
    assert line.said[:2] == ["one cannot be closed", "nor the other"]
    assert line.told


def test_the_reports_of_a_run_do_not_cut_it() -> None:
    heeded: list[bool] = []
    link = SimpleNamespace(post=lambda kind, body: None, heed=lambda: heeded.append(True))
    env = object.__new__(Environment)
    env._link, env._last_progress, env._told_complete = link, 0.0, False  # type: ignore[assignment]
    env.report({})
    assert not heeded
    env.progress(1.0)
    assert heeded


def test_a_helping_thread_of_the_program_is_not_interrupted() -> None:
    line = Line()
    raised: list[BaseException] = []

    def helps() -> None:
        try:
            line.logger().info("helped")
        except BaseException as error:
            raised.append(error)

    def program() -> None:
        ring, line.ring = line.ring, lambda: None
        signal.getsignal(signal.SIGINT)(signal.SIGINT, frame_of_ours())  # type: ignore[operator, misc]
        thread = threading.Thread(target=helps)
        thread.start()
        thread.join()
        assert not raised
        line.ring = ring
        line.logger().info("main")

    under_interrupts(line, program)
    assert line.said == ["helped", "main"]


def frame_of_ours() -> Any:
    code: dict[str, Any] = {"__name__": "twister2.worker.pretended"}
    exec("import sys\ndef frame():\n    return sys._getframe()", code)
    return code["frame"]()


def test_a_thread_that_does_nothing_but_log() -> None:
    line = Line()
    line.ring = lambda: time.sleep(0.01)

    def main() -> None:
        log = line.logger()
        while True:
            log.info("all the time in a call")

    program = Program(main, line)
    program.interrupt.send()
    program.end()
    assert isinstance(program.raised, KeyboardInterrupt)
    assert line.told
