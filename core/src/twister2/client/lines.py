"""Standard streams shared by worker threads: what one of them prints as a line arrives as a line."""

from __future__ import annotations

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
        self._lock = threading.RLock()
        self._begun: dict[int, str] = {}

    def write(self, text: str) -> int:
        """Write whole lines, keep the rest."""
        if threading.current_thread() is threading.main_thread():
            with self._lock:
                self.stream.write(text)
            return len(text)
        ident = threading.get_ident()
        lines, end, rest = (self._begun.pop(ident, "") + text).rpartition("\n")
        if rest:
            self._begun[ident] = rest
        if end:
            with self._lock:
                self.stream.write(lines + end)
                self.stream.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what this thread has begun, too: a prompt, a progress bar."""
        self._release(threading.get_ident())

    def close_lines(self) -> None:
        """Write what any thread has begun and not ended."""
        for ident in list(self._begun):
            self._release(ident)

    def _release(self, ident: int) -> None:
        with self._lock:
            if begun := self._begun.pop(ident, ""):
                self.stream.write(begun)
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class ThreadLines:
    """Puts a :class:`LineStream` in place of each standard stream, from ``begin`` to ``end``. Both are idempotent."""

    def __init__(self) -> None:
        self._ours: dict[str, LineStream] = {}

    def begin(self) -> None:
        for name in NAMES:
            stream = getattr(sys, name)
            if name not in self._ours and stream is not None and not isinstance(stream, LineStream):
                self._ours[name] = LineStream(stream)
                setattr(sys, name, self._ours[name])

    def end(self) -> None:
        """A stream that somebody has put in place of ours stays."""
        for name, ours in self._ours.items():
            ours.close_lines()
            if getattr(sys, name) is ours:
                setattr(sys, name, ours.stream)
        self._ours.clear()
