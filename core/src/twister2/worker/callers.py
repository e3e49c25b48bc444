"""Where in the user's program a collective action was called."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twister2.spec.tracebacks import is_ours

if TYPE_CHECKING:
    from types import FrameType

_MANY = 10_000
_ours: set[int] = set()
"""Identities of code objects of this system's."""
_lines: dict[tuple[int, int], str] = {}
"""By identity of another code object and place in it."""
_kept: list[Any] = []
"""The code objects, kept alive: else another one could get the identity of one that has died."""


def caller_line(depth: int = 2) -> str:
    """``file.py:123`` of the first frame outside this system's packages; empty when there is none."""
    frame: FrameType | None = sys._getframe(depth)
    ours = _ours
    while frame is not None:
        code = frame.f_code
        if id(code) not in ours:
            line = _lines.get((id(code), frame.f_lasti)) or _line_of(frame)
            if line:
                return line
        frame = frame.f_back
    return ""


def line_of_thread(thread: int) -> str:
    """Where another thread of this process is: as :func:`caller_line`, for it."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        line = "" if id(frame.f_code) in _ours else _line_of(frame)
        if line:
            return line
        frame = frame.f_back
    return ""


def _line_of(frame: FrameType) -> str:
    """The line of a frame that is not known yet; empty when it is this system's."""
    if len(_kept) > _MANY:
        _ours.clear()
        _lines.clear()
        _kept.clear()
    code, module = frame.f_code, frame.f_globals.get("__name__", "")
    _kept.append(code)
    if is_ours(module, testkit=True) or module == "contextlib":
        _ours.add(id(code))
        return ""
    line = _lines[id(code), frame.f_lasti] = f"{code.co_filename}:{frame.f_lineno}"
    return line
