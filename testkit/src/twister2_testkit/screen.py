"""What a terminal holds after a display and a program have written to it."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b|[\r\n]|[^\x1b\r\n]")


class Screen:
    """A terminal that knows what a display uses: new lines, carriage returns, going up, clearing a line or all below.

    It is as high as need be. Lines wrap at its width, and again when that changes (:meth:`resize`). Any other control
    sequence is an error, and so is going up out of the first line.

    :ivar lines: what it shows; the last one is empty when the cursor is at the beginning of a new line.
    """

    def __init__(self, columns: int = 80) -> None:
        self.columns = columns
        self.lines = [""]
        self._wrapped = [False]
        """Of each line: whether the next one goes on with it."""
        self._row = self._column = 0

    def resize(self, columns: int) -> None:
        """Make it as wide as that: what was one line is wrapped again, and the cursor stays with its character."""
        lines, wrapped = [""], [False]
        row, column = self._row, self._column
        at = 0
        begun = ""
        for number, (line, goes_on) in enumerate(zip(self.lines, self._wrapped, strict=True)):
            if number == row:
                at = len(begun) + column
            begun += line.ljust(self.columns) if goes_on else line
            if goes_on:
                continue
            pieces = [begun[start : start + columns] for start in range(0, len(begun), columns)] or [""]
            if self._is_within(number, row):
                below, self._column = divmod(at, columns)
                if not self._column and 0 < at == len(begun):  # it wraps with the next character
                    below, self._column = below - 1, columns
                while below >= len(pieces):  # the cursor stands behind the end
                    pieces.append("")
                self._row = len(lines) - 1 + below
            lines[-1:] = [*pieces, ""]
            wrapped[-1:] = [*([True] * (len(pieces) - 1)), False, False]
            begun = ""
        self.lines, self._wrapped = lines[:-1], wrapped[:-1]
        self.columns = columns

    def _is_within(self, last: int, row: int) -> bool:
        """Whether a row is one of those that make the line which ends in row ``last``."""
        first = last
        while first and self._wrapped[first - 1]:
            first -= 1
        return first <= row <= last

    def isatty(self) -> bool:
        """It is one."""
        return True

    def fileno(self) -> int:
        """
        :raises ValueError: it is none: displays take the default width.
        """
        raise ValueError("no file")

    def flush(self) -> None:
        """Nothing is kept back."""

    def write(self, text: str) -> int:
        """Show text."""
        for match in _SEQUENCE.finditer(text):
            if match[2]:
                self._control(int(match[1] or 0), match[2])
            elif match[0] == "\n":
                self._down()
                self._column = 0
            elif match[0] == "\r":
                self._column = 0
            else:
                assert match[0].isprintable(), f"{match[0]!r} on a terminal"
                self._put(match[0])
        return len(text)

    def _control(self, number: int, kind: str) -> None:
        match kind:
            case "A":
                assert self._row >= (number or 1), "goes up out of the terminal"
                self._row -= number or 1
            case "K" if number == 2:
                self.lines[self._row] = ""
                self._wrapped[self._row] = False
            case "J" if number == 0:
                self.lines[self._row] = self.lines[self._row][: self._column]
                self._wrapped[self._row] = False
                del self.lines[self._row + 1 :], self._wrapped[self._row + 1 :]
            case _:
                raise AssertionError(f"unknown control sequence {number}{kind}")

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.lines):
            self.lines.append("")
            self._wrapped.append(False)

    def _put(self, character: str) -> None:
        if self._column == self.columns:
            self._wrapped[self._row] = True
            self._down()
            self._column = 0
        line = self.lines[self._row].ljust(self._column)
        self.lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
        self._column += 1
