"""Ctrl-C, and what else asks a client to end, while a job is submitted, followed and ended: it is heard where it can be
acted on, and nowhere else.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

OF_COMMANDS = (signal.SIGTERM, signal.SIGHUP)
"""What ends a command beside Ctrl-C. In a script or notebook they are the program's own."""


_early: list[int] = []
"""What came before there was a job, and perhaps nobody has heard."""


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Within, Ctrl-C is not lost: Python drops a ``KeyboardInterrupt`` that is raised in a callback of its own, as
    imports have. It is raised as before, and what goes on in spite of it hears of it at :meth:`Interrupts.begin`.
    """
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_early)
    try:
        yield
    finally:
        if main and signal.getsignal(signal.SIGINT) is _on_early:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _early.clear()


def _on_early(number: int, frame: FrameType | None) -> None:
    _early.append(number)
    raise KeyboardInterrupt


class TerminatedError(KeyboardInterrupt):
    """A signal that is not Ctrl-C asks this process to end.

    :ivar number: the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(f"{self.number.name} to the submitting client")


class Interrupts:
    """From :meth:`begin` to :meth:`end`, ``KeyboardInterrupt`` comes inside of :meth:`heard` only.

    One that comes elsewhere waits for the next ``heard``; while a job is being ended nobody asks, so that an impatient
    user cannot leave half of it behind. Where SIGINT is not Python's own (another thread than the main one, a handler
    of the program) nothing is changed.

    :param also: signals that come as :class:`TerminatedError`, where nobody handles or ignores them. Only one of them
        is heard, and none after Ctrl-C: a shell that ends sends more than one, and each job has its grace.
    """

    def __init__(self, also: Sequence[int] = ()) -> None:
        self._also = also
        self._taken: list[int] = []
        self._open = self._acted = False
        self._pending = 0

    def begin(self) -> None:
        """Take the signals, where they are Python's or the system's. Idempotent."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, *self._also):
            if signal.getsignal(number) in (_usual(number), _on_early):
                self._taken.append(number)
                signal.signal(number, self._on_signal)
        if _early:
            _early.clear()
            self._pending = signal.SIGINT

    def end(self) -> None:
        """Give them back. Idempotent.

        :raises KeyboardInterrupt: one came that nobody has heard, and none was heard before: the program's, then.
        """
        taken, self._taken = self._taken, []
        for number in taken:
            signal.signal(number, _usual(number))
        if taken and self._pending and not self._acted:
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
        if number != signal.SIGINT and (self._pending or self._acted):
            return
        self._pending = number
        if self._open:
            self._raise()

    def _raise(self) -> None:
        number, self._pending = self._pending, 0
        self._open = False
        self._acted = True
        raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError(number)


def _usual(number: int) -> signal.Handlers | signal._HANDLER:
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
