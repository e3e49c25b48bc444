"""Ctrl-C while a job is submitted, followed and ended: it is heard where it can be acted on, and nowhere else."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Interrupts:
    """From :meth:`begin` to :meth:`end`, ``KeyboardInterrupt`` comes inside of :meth:`heard` only.

    One that comes elsewhere waits for the next ``heard``; while a job is being ended nobody asks, so that an impatient
    user cannot leave half of it behind. Where SIGINT is not Python's own (another thread than the main one, a handler
    of the program) nothing is changed.
    """

    def __init__(self) -> None:
        self._ours = self._open = self._pending = self._acted = False

    def begin(self) -> None:
        """Take SIGINT, where it is Python's. Idempotent."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._ours = True
            signal.signal(signal.SIGINT, self._on_signal)

    def end(self) -> None:
        """Give it back. Idempotent.

        :raises KeyboardInterrupt: one came that nobody has heard, and none was heard before: the program's, then.
        """
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._ours = False
            if self._pending and not self._acted:
                self._raise()

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Where ``KeyboardInterrupt`` may come; once, and at the beginning for one that came before."""
        self._open = True
        try:
            if self._pending:
                self._raise()
            yield
        finally:
            self._open = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._pending = True
        if self._open:
            self._raise()

    def _raise(self) -> None:
        self._open = self._pending = False
        self._acted = True
        raise KeyboardInterrupt
