"""A log that is appended to and never grows beyond a limit: parts, of which the oldest is removed.

The first part of ``worker-0.log`` has that name, a later one that of the byte it begins at, ``worker-0.1048576.log``.
A part is never renamed, so who follows the log loses nothing but what is removed. Later parts begin with a line of
their own that says how much came before them; :func:`parts` tells readers when to skip it.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

PARTS = 2
"""Parts that are kept: the one that is written and one before it."""


class Part(NamedTuple):
    """One file of a log.

    :ivar begins: bytes of the log that came before it. :ivar skip_note: its first line says so, and is of no interest
        because the part before it is there.
    """

    path: pathlib.Path
    begins: int
    skip_note: bool


def parts(path: pathlib.Path) -> list[Part]:
    """The files of the log that is called ``path``, oldest first."""
    pattern = re.compile(re.escape(path.stem) + r"(?:\.(\d+))?" + re.escape(path.suffix))
    found = []
    for each in path.parent.glob(f"{path.stem}*{path.suffix}"):
        match = pattern.fullmatch(each.name)
        if match:
            found.append((int(match[1] or 0), each))
    found.sort()
    return [Part(each, begins, skip_note=number > 0) for number, (begins, each) in enumerate(found)]


class LimitedLog:
    """Writes such a log; goes on where an earlier writer ended."""

    def __init__(self, path: pathlib.Path, limit: int, note: Callable[[int], bytes]) -> None:
        """
        :param limit: bytes of all parts together, more or less a line; 0: any number.
        :param note: the line a later part begins with, from the number of bytes before it.
        :raises OSError: the file cannot be opened.
        """
        self._path, self._part_limit, self._note = path, limit // PARTS, note
        there = parts(path)
        self._begins = there[-1].begins if there else 0
        self._file = self._open(there[-1].path if there else path)
        self._size = self._file.tell()

    @staticmethod
    def _open(path: pathlib.Path) -> IO[bytes]:
        return path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        """Append; the next part begins at the beginning of a line, unless that is very long.

        :raises OSError: it cannot be written.
        """
        if self._part_limit and self._size + len(data) > self._part_limit and self._size:
            end = data.find(b"\n") + 1 if not self._at_line_start else 0
            if end or self._at_line_start or self._size > 2 * self._part_limit:
                self._append(data[:end])
                self._next_part()
                data = data[end:]
        self._append(data)

    _at_line_start = True

    def _append(self, data: bytes) -> None:
        if data:
            self._at_line_start = data.endswith(b"\n")
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            self._size += written
            view = view[written:]

    def _next_part(self) -> None:
        begins = self._begins + self._size
        following = self._open(self._path.with_name(f"{self._path.stem}.{begins}{self._path.suffix}"))
        self._file.close()
        self._file, self._begins, self._size = following, begins, 0
        self._append(self._note(begins))
        for old in parts(self._path)[:-PARTS]:
            old.path.unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()
