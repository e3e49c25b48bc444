"""Where in the user's program a collective action was called."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_OURS = ("twister2.", "twister2_")
_MANY = 10_000
_lines: dict[tuple[Any, int], str] = {}


def caller_line(depth: int = 2) -> str:
    """``file.py:123`` of the first frame outside this system's packages; empty when there is none."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not (name.startswith(_OURS) or name in ("twister2", "contextlib")):
            key = (frame.f_code, frame.f_lineno)
            line = _lines.get(key)
            if line is None:
                if len(_lines) > _MANY:
                    _lines.clear()
                line = _lines[key] = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            return line
        frame = frame.f_back
    return ""
