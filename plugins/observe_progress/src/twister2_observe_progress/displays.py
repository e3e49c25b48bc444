"""Two ways to show a job: redrawn lines of a terminal, and quiet lines."""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TextIO

from twister2_observe_progress.summary import table
from twister2_observe_progress.text import headline, last_line, work

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2_observe_progress.view import JobView

REDRAW_S = 0.1
"""Shortest time between two redraws."""

SHORT_S = 2.0
"""Jobs that are shorter say nothing but how they ended, where lines stay."""

_CLEAR_BELOW = "\x1b[J"
"""From the cursor on, so that what others have printed before it stays whatever happens."""
_USUAL = 80
"""Columns of a terminal whose width is not known."""
_COLOURS = re.compile(r"(\x1b\[[0-9;]*m)+$")


class Display(ABC):
    """Shows one job. Every method returns at once."""

    @abstractmethod
    def changed(self) -> None:
        """State, attempt or workers changed."""

    @abstractmethod
    def progressed(self) -> None:
        """A worker reported."""

    @abstractmethod
    def step_aside(self) -> None:
        """Somebody is about to print."""

    def output(self, text: str) -> None:
        """This is about to be printed where this display is shown."""
        self.step_aside()

    @abstractmethod
    def end(self, state: str, reason: str, seconds: float) -> None:
        """The job has ended."""


class LineDisplay(Display):
    """Few lines: nothing but the last one of a job of two seconds.

    Then a line at each change of state and every ``interval_s`` seconds while workers report; at once when the job
    is queued for a reason, and when it is started again.
    """

    def __init__(
        self,
        view: JobView,
        stream: TextIO,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        summary: bool = False,
    ) -> None:
        self._view, self._stream, self._interval_s, self._clock = view, stream, interval_s, clock
        self._summary = summary
        self._shown = ("", "", 1)
        self._quiet_until = self._next = clock() + SHORT_S

    def changed(self) -> None:
        view = self._view
        now = (view.state, view.reason, max(view.attempt, 1))
        urgent = (view.state == "queued" and view.reason) or now[2] != self._shown[2]
        if now != self._shown and (urgent or self._clock() >= self._quiet_until):
            self._shown = now
            self._print()

    def progressed(self) -> None:
        if self._clock() >= self._next:
            view = self._view
            self._shown = (view.state, view.reason, max(view.attempt, 1))
            self._print()

    def step_aside(self) -> None:
        """Lines are in nobody's way."""

    def end(self, state: str, reason: str, seconds: float) -> None:
        if self._summary:
            for line in table(self._view.final):
                self._write(line)
        self._write(last_line(self._view, state, reason, seconds))

    def _print(self) -> None:
        self._next = self._clock() + self._interval_s
        doing = work(self._view, bar=False)
        self._write(headline(self._view) + (f": {doing}" if doing else ""))

    def _write(self, line: str) -> None:
        self._stream.write(f"twister2: {line}\n")
        self._stream.flush()


class TerminalDisplay(Display):
    """Up to two lines at the bottom of a terminal, with the cursor at the beginning of the first.

    While others have begun a line there, nothing is shown: the line is theirs until they end it.
    """

    def __init__(
        self,
        view: JobView,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        *,
        summary: bool = False,
    ) -> None:
        self._view, self._stream, self._clock, self._summary = view, stream, clock, summary
        self._shown = self._begun = self._at_a_line = False
        self._next = 0.0

    def changed(self) -> None:
        self._draw()

    def progressed(self) -> None:
        if self._clock() >= self._next:
            self._draw()

    def step_aside(self) -> None:
        if self._shown:
            self._stream.write(_CLEAR_BELOW)
            self._stream.flush()
            self._shown = False

    def output(self, text: str) -> None:
        self.step_aside()
        if text := _COLOURS.sub("", text):
            self._begun = not text.endswith("\n")

    def end(self, state: str, reason: str, seconds: float) -> None:
        self.step_aside()
        self._stream.write("\n" if self._begun else self._to_a_line())
        if self._summary:
            self._stream.write("".join(f"{line}\n" for line in table(self._view.final)))
        self._stream.write(last_line(self._view, state, reason, seconds) + "\n")
        self._stream.flush()

    def _draw(self) -> None:
        if self._begun:
            return
        self._next = self._clock() + REDRAW_S
        # a line as wide as the terminal may wrap, and going up by lines would then miss one
        width = max(10, (self._columns() or _USUAL) - 1)
        lines = [line[:width] for line in (headline(self._view), work(self._view, bar=True)) if line]
        back = f"\x1b[{len(lines) - 1}A\r" if len(lines) > 1 else "\r"
        self._stream.write(self._to_a_line() + "\n".join(lines) + back)
        self._stream.flush()
        self._shown = True

    def _to_a_line(self) -> str:
        """Brings the cursor to the beginning of a line that is clear, as all below it.

        Whatever stands before the cursor stays: text that was there before the job, or that was shown while this
        display was late to hear of it. A line of blanks wraps behind it, and only over itself where there is nothing.
        It must be as wide as the terminal, else it wraps each time; where nobody knows how wide that is, it comes once.
        """
        columns = self._columns()
        if not columns and self._at_a_line:
            return _CLEAR_BELOW
        self._at_a_line = True
        return " " * (columns or _USUAL) + "\r" + _CLEAR_BELOW

    def _columns(self) -> int:
        """Width of the terminal, 0 when it is not known."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            return 0


def display_for(view: JobView, stream: TextIO, wanted: str, interval_s: float, summary: str = "never") -> Display:
    """The display that was asked for; ``auto``: by whether ``stream`` is a terminal that can be redrawn.

    :param summary: whether a table is shown at the end; ``auto``: on a terminal.
    """
    terminal = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    shows = summary == "always" or (summary == "auto" and stream.isatty())
    if wanted == "terminal" or (wanted == "auto" and terminal):
        return TerminalDisplay(view, stream, summary=shows)
    return LineDisplay(view, stream, interval_s, summary=shows)
