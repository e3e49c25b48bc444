"""Calls that may take long (a resource manager, a slow disk), in a thread of their own while the master's loop goes
on.
"""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from twister2.spec.errors import DeadlineError, Twister2Error

Done = Callable[[Any, Twister2Error | None], None]


class Calls(Protocol):
    """Runs functions one after another, in the order of the calls."""

    def call(self, function: Callable[[], Any], done: Done) -> None:
        """Run ``function``; ``done(result, error)`` is called later, in the master's thread."""

    def finish(self, function: Callable[[], Any], deadline_s: float) -> Twister2Error | None:
        """Run ``function`` after all that was called before, and wait for it; returns its error, if any."""


class CallThread:
    """:class:`Calls` in one thread, which starts with the first call; results are handed out by :meth:`deliver`."""

    def __init__(self, whose: str, waits: Callable[[], None] = lambda: None) -> None:
        """
        :param whose: whose functions are called, for errors: ``"the resource manager plugin"``. :param waits: called
            now and then while :meth:`finish` waits.
        """
        self._whose, self._waits = whose, waits
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Done] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Done, Any, Twister2Error | None]] = queue.SimpleQueue()
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread: threading.Thread | None = None

    def fileno(self) -> int:
        """Readable when a result waits for :meth:`deliver`."""
        return self._read

    def call(self, function: Callable[[], Any], done: Done) -> None:
        """Run ``function`` in the thread; ``done(result, error)`` is called by :meth:`deliver`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"calls of {self._whose}", daemon=True)
            self._thread.start()
        self._calls.put((function, done))

    def tell(self, function: Callable[[], None]) -> None:
        """From within a call that goes on: run ``function`` where results are handed out."""
        self._results.put((lambda *_: function(), None, None))
        os.write(self._write, b"x")

    def deliver(self) -> None:
        """Hand out finished results."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return
        while not self._results.empty():
            done, result, error = self._results.get()
            done(result, error)

    def finish(self, function: Callable[[], Any], deadline_s: float) -> Twister2Error | None:
        """Run ``function`` after all that was called before and wait; returns its error, or that it took too long."""
        answers: list[Twister2Error | None] = []
        waits = True

        def run() -> None:
            if waits:  # else it would come when nobody expects it any more
                function()

        self.call(run, lambda _, error: answers.append(error))
        deadline = time.monotonic() + deadline_s
        poller = select.poll()  # select ends at descriptor 1023, and a notebook may have more
        poller.register(self._read, select.POLLIN)
        while not answers and (left := deadline - time.monotonic()) > 0:
            poller.poll(min(left, 0.1) * 1000)
            self._waits()
            self.deliver()
        if answers:
            return answers[0]
        waits = False
        return DeadlineError(
            f"{self._whose} did not answer within {deadline_s:g} s",
            why="a call at the end of the job, or one before it, still runs",
            remedy="look for a disk or a server that hangs; remove by hand what is left of the job",
        )

    def close(self, deadline_s: float = 5.0) -> bool:
        """Wait a moment for the calls that still run; whether they have ended, so that what they use can be closed.

        One that has not goes on in its thread until this process ends; nobody hears of its result.
        """
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join(deadline_s)
        if self._thread is not None and self._thread.is_alive():
            return False
        os.close(self._read)
        os.close(self._write)
        return True

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            function, done = item
            result, error = None, None
            try:
                result = function()
            except Twister2Error as caught:
                error = caught
            except Exception as caught:
                error = Twister2Error(
                    f"{self._whose} raised {type(caught).__name__}: {caught}",
                    why="a bug in the plugin: for what the outside does it must raise an error of twister2",
                    remedy="report it to the plugin's author",
                )
            self._results.put((done, result, error))
            os.write(self._write, b"x")
