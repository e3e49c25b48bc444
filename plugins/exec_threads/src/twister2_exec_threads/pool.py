"""A pool of daemon threads that start when they are needed.

Not ``concurrent.futures``: its threads are joined when the interpreter ends, so that a function which never returns
would keep a cancelled worker alive.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from twister2.graph.runtime import Call, Pool

if TYPE_CHECKING:
    from collections.abc import Callable


class ThreadCall(Call):
    """A call in one of the threads."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self._value: Any = None
        self._error: BaseException | None = None
        self._done = False

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._done

    def result(self) -> Any:
        """What the function returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def run(self) -> None:
        """Make the call, in a thread of the pool."""
        try:
            self._value = self._function(*self._arguments)
        except BaseException as error:  # handed to the thread that runs the step, SystemExit included
            self._error = error
        self._arguments = ()
        self._done = True


class ThreadPool(Pool):
    """At most ``size`` threads."""

    def __init__(self, size: int) -> None:
        self._size = max(1, size)
        self._threads: list[threading.Thread] = []
        self._calls: queue.SimpleQueue[ThreadCall | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._waiting = 0
        """Calls given and not ended, counted by the submitting thread and the pool's together (under the lock)."""
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, function: Callable[..., Any], *args: Any) -> Call:
        """Begin a call in a free thread, or as soon as one is free."""
        if self._closed:
            raise RuntimeError("the pool is closed")
        call = ThreadCall(function, args)
        with self._lock:
            self._waiting += 1
            needed = self._waiting > len(self._threads) and len(self._threads) < self._size
        if needed:
            name = f"twister2-task-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._calls.put(call)
        return call

    def wait(self, timeout_s: float) -> None:
        """Sleep until a call has ended, or the time is over."""
        if self._ended.wait(timeout_s):
            self._ended.clear()

    def close(self, deadline_s: float = 2.0) -> None:
        """End the threads that are free within the deadline. Idempotent."""
        self._closed = True
        for _ in self._threads:
            self._calls.put(None)
        end = time.monotonic() + deadline_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._threads = []

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            with self._lock:
                self._waiting -= 1
            self._ended.set()
