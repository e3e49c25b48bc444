"""The master's use of the resource manager: calls that may take seconds run in a thread of their own, in order."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twister2.spec.errors import Twister2Error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.control.ticket import Ticket
    from twister2.spec.rm import ResourceManager

Done = Callable[[Any, Twister2Error | None], None]


class Manager(Protocol):
    """What the state machine asks of the resource manager; all calls return at once."""

    def publish(self, ticket: Ticket) -> None: ...

    def start_attempt(self, attempt: int, slots: Sequence[int]) -> None: ...

    def restarts(self, slots: Sequence[int]) -> bool: ...


class ManagerThread:
    """Runs calls to a backend one after another; results are handed out by :meth:`deliver` in the master's thread."""

    def __init__(self, backend: ResourceManager) -> None:
        self.backend = backend
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Done] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Done, Any, Twister2Error | None]] = queue.SimpleQueue()
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="twister2-rm", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when a result waits for :meth:`deliver`."""
        return self._read

    def call(self, function: Callable[[], Any], done: Done) -> None:
        """Run ``function`` in the thread; ``done(result, error)`` is called by :meth:`deliver`."""
        self._calls.put((function, done))

    def deliver(self) -> None:
        """Hand out finished results."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return
        while not self._results.empty():
            done, result, error = self._results.get()
            done(result, error)

    def close(self, deadline_s: float = 5.0) -> None:
        self._calls.put(None)
        self._thread.join(deadline_s)

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
                    f"the resource manager plugin raised {type(caught).__name__}: {caught}",
                    why="a bug in the plugin: it must raise ResourceError for what the outside does",
                    remedy="report it to the plugin's author",
                )
            self._results.put((done, result, error))
            os.write(self._write, b"x")
