"""Where in the user's program a collective action was called."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_OURS = ("twister2.", "twister2_")
_MANY = 10_000
_ours: dict[Any, bool] = {}
"""Whether a code object is this system's."""
_lines: dict[tuple[Any, int], str] = {}


def caller_line(depth: int = 2) -> str:
    """``file.py:123`` of the first frame outside this system's packages; empty when there is none."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        ours = _ours.get(code)
        if ours is None:
            ours = _is_ours(code, frame.f_globals.get("__name__", ""))
        if not ours:
            key = (code, frame.f_lineno)
            line = _lines.get(key)
            if line is None:
                if len(_lines) > _MANY:
                    _lines.clear()
                line = _lines[key] = f"{code.co_filename}:{key[1]}"
            return line
        frame = frame.f_back
    return ""


def _is_ours(code: Any, module: str) -> bool:
    if len(_ours) > _MANY:
        _ours.clear()
    ours = _ours[code] = module.startswith(_OURS) or module in ("twister2", "contextlib")
    return ours
