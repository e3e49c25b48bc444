"""Where in the user's program a step of a set was written."""

from __future__ import annotations

import inspect
import os
import sys
from typing import Any

_OURS = ("twister2.", "twister2_tset")


def user_line() -> str:
    """``file.py:12`` of the innermost frame outside this system's packages."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OURS):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def line_of(function: Any) -> str:
    """``file.py:12 in name``: where a function was written; empty for what was not written in Python."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno} in {code.co_qualname}"
