"""Standard streams shared by worker threads: what one of them prints as a line arrives as a line."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = ("stdout", "stderr")


class LineStream:
    """In place of ``sys.stdout``: keeps what a thread writes until its line has ended or it flushes.

    The main thread, which has no others beside it that write in the middle of its lines, writes through. Everything
    else is the stream's in whose place it is.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.users = 0
        """Jobs that want it."""
        self._lock = threading.RLock()
        self._begun: dict[threading.Thread, str] = {}

    def write(self, text: str) -> int:
        """Write whole lines, keep the rest."""
        me = threading.current_thread()
        if me is threading.main_thread():
            with self._lock:
                self.stream.write(text)
            return len(text)
        lines, end, rest = (self._begun.pop(me, "") + text).rpartition("\n")
        if rest:
            self._begun[me] = rest
        if end:
            with self._lock:
                self._end_lines_of_the_dead()
                self.stream.write(lines + end)
                self.stream.flush()
        return len(text)

    def _end_lines_of_the_dead(self) -> None:
        """A thread that has ended goes on with no line: the next one's is a line of its own."""
        for thread in [thread for thread in list(self._begun) if not thread.is_alive()]:
            self.stream.write(self._begun.pop(thread, "") + "\n")

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what this thread has begun, too: a prompt, a progress bar."""
        self._release(threading.current_thread())

    def close_lines(self) -> None:
        """Write what threads have begun and not ended; those of other jobs that still run go on with theirs."""
        for thread in list(self._begun):
            if not self.users or not thread.is_alive():
                self._release(thread)

    def _release(self, thread: threading.Thread) -> None:
        with self._lock:
            if begun := self._begun.pop(thread, ""):
                self.stream.write(begun)
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


_change = threading.Lock()


class ThreadLines:
    """Puts a :class:`LineStream` in place of each standard stream, from ``begin`` to ``end``. Both are idempotent.

    Jobs at the same time share it; the last one to end takes it away.
    """

    def __init__(self) -> None:
        self._ours: dict[str, LineStream] = {}

    def begin(self) -> None:
        with _change:
            for name in NAMES:
                stream = getattr(sys, name)
                if name in self._ours or stream is None:
                    continue
                if not isinstance(stream, LineStream):
                    stream = LineStream(stream)
                    setattr(sys, name, stream)
                stream.users += 1
                self._ours[name] = stream

    def end(self) -> None:
        """A stream that somebody has put in place of ours stays."""
        with _change:
            for name, ours in self._ours.items():
                ours.users -= 1
                with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or it was closed
                    ours.close_lines()
                if not ours.users and getattr(sys, name) is ours:
                    setattr(sys, name, ours.stream)
            self._ours.clear()
