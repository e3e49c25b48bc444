"""Where in the user's program a collective action was called."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_OURS = ("twister2.", "twister2_")
_MANY = 10_000
_ours: dict[int, tuple[Any, bool]] = {}
"""By identity of a code object, which is kept alive: whether it is this system's."""
_lines: dict[tuple[int, int], tuple[Any, str]] = {}
"""By identity of a code object, which is kept alive, and place in it."""


def caller_line(depth: int = 2) -> str:
    """``file.py:123`` of the first frame outside this system's packages; empty when there is none."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        known = _lines.get((id(code), frame.f_lasti))
        if known is not None:
            return known[1]
        ours = _ours.get(id(code))
        if not (ours[1] if ours is not None else _is_ours(code, frame.f_globals.get("__name__", ""))):
            return _line_of(frame)
        frame = frame.f_back
    return ""


def _is_ours(code: Any, module: str) -> bool:
    if len(_ours) > _MANY:
        _ours.clear()
    ours = module.startswith(_OURS) or module in ("twister2", "contextlib")
    _ours[id(code)] = code, ours
    return ours


def _line_of(frame: FrameType) -> str:
    if len(_lines) > _MANY:
        _lines.clear()
    code = frame.f_code
    line = f"{code.co_filename}:{frame.f_lineno}"
    _lines[id(code), frame.f_lasti] = code, line
    return line
